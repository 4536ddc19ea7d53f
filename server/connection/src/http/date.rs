//! The `Date` field of an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The second that the wall clock shows, in seconds since 1970. Whoever has a clock tells it, once a second is enough;
/// all connections that share the cell write it into the heads of their answers. Until it is told, answers have no
/// `Date`, as RFC 9110 asks of a server without a clock.
#[derive(Clone, Debug, Default)]
pub struct DateCell(Arc<AtomicU64>);

impl DateCell {
    /// Tells the second.
    pub fn set(&self, unix_seconds: u64) {
        self.0.store(unix_seconds, Ordering::Relaxed);
    }

    /// What was told last; zero before that.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl PartialEq for DateCell {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for DateCell {}

/// Appends `Date: Sun, 06 Nov 1994 08:49:37 GMT` and its line end to `out`.
pub(crate) fn write_date(out: &mut Vec<u8>, unix_seconds: u64) {
    let (days, of_day) = (unix_seconds / SECONDS_PER_DAY, unix_seconds % SECONDS_PER_DAY);
    let (year, month, day) = civil(days);
    let mut line = *b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    // The first of January 1970 was a Thursday.
    line[6..9].copy_from_slice(name(b"ThuFriSatSunMonTueWed", days % 7));
    line[14..17].copy_from_slice(name(b"JanFebMarAprMayJunJulAugSepOctNovDec", month - 1));
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let numbers = [(11, day), (18, year / 100), (20, year), (23, hour), (26, minute), (29, second)];
    for (at, number) in numbers {
        line[at..at + 2].copy_from_slice(&two_digits(number));
    }
    out.extend_from_slice(&line);
}

const SECONDS_PER_DAY: u64 = 86_400;

/// Year, month from 1 and day from 1 of a day counted from 1970. Years are counted from March, so that the leap day is
/// the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_PER_ERA: u64 = 146_097;
    let days = days + DAYS_TO_1970;
    let (era, of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era =
        (of_era - of_era / 1460 + of_era / 36_524 - of_era / (DAYS_PER_ERA - 1)) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn name(names: &'static [u8], index: u64) -> &'static [u8] {
    let start = usize::try_from(index).expect("an index among names") * 3;
    &names[start..start + 3]
}

/// The last two digits of a number.
fn two_digits(number: u64) -> [u8; 2] {
    const DIGITS: &[u8; 10] = b"0123456789";
    [DIGITS[(number / 10 % 10) as usize], DIGITS[(number % 10) as usize]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_every_client_reads_it() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        ] {
            let mut out = Vec::new();
            write_date(&mut out, seconds);
            assert_eq!(String::from_utf8(out).expect("text"), format!("Date: {text}\r\n"));
        }
    }
}
