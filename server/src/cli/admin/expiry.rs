//! When a key ends.

use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// The seconds of a day.
const DAY_S: u64 = 24 * 60 * 60;

/// The longest life that can be given in days: past the year 9999 a moment has no four digits.
const DAYS_MAX: u64 = 100 * 366;

/// A moment, given as such or as days from now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// As RFC 3339 writes it. Whether it is a moment, and lies ahead, is for the server to judge.
    Moment(String),
    /// Days from now.
    Days(u64),
}

impl Expiry {
    /// The moment, as RFC 3339 writes it.
    pub(super) fn moment(&self) -> String {
        match self {
            Self::Moment(text) => text.clone(),
            Self::Days(days) => {
                // A clock before 1970 makes a moment that the server will refuse.
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                rfc3339(now.as_secs() + days * DAY_S)
            }
        }
    }
}

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(Ok(days)) = text.strip_suffix('d').map(str::parse::<u64>) {
            return match days {
                1..=DAYS_MAX => Ok(Self::Days(days)),
                _ => Err(format!("a key lives 1 to {DAYS_MAX} days")),
            };
        }
        let shape = |(index, byte): (usize, u8)| match index {
            4 | 7 => byte == b'-',
            10 => byte == b'T' || byte == b't',
            13 | 16 => byte == b':',
            0..19 => byte.is_ascii_digit(),
            _ => byte.is_ascii_graphic(),
        };
        if text.len() >= 20 && text.bytes().enumerate().all(shape) {
            return Ok(Self::Moment(text.to_owned()));
        }
        Err("a moment looks like 2030-01-31T00:00:00Z, days like 90d".to_owned())
    }
}

/// Seconds since 1970 as a moment.
fn rfc3339(unix_s: u64) -> String {
    let (days, second) = (unix_s / DAY_S, unix_s % DAY_S);
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// The date `days` after 1970-01-01. Counts in years that begin in March, so that the leap day is the last one; see
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil(days: u64) -> (u64, u64, u64) {
    let from_march_0000 = days + 719_468;
    let era = from_march_0000 / 146_097;
    let day_of_era = from_march_0000 % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339_has_them() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_794_960_000), "2026-11-18T00:00:00Z");
        assert_eq!(rfc3339(4_102_444_800), "2100-01-01T00:00:00Z");
    }

    #[test]
    fn days_and_moments_are_told_apart() {
        assert_eq!("90d".parse(), Ok(Expiry::Days(90)));
        let text = "2030-01-31T00:00:00+02:00";
        assert_eq!(text.parse(), Ok(Expiry::Moment(text.into())));
        for text in ["", "d", "0d", "99999999d", "2030-01-31", "tomorrow", "20300131T000000000Z"] {
            assert!(text.parse::<Expiry>().is_err(), "{text}");
        }
    }
}
