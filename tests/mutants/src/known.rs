//! Survivors that a second mechanism heals: `tests/mutants/healed.txt` names each with that mechanism and with the
//! test or seed that fails when both are off.
//!
//! A line is `FILE | TEXT AT THE PLACE | MECHANISM`, the first two as the tool prints them without the line's
//! number, which moves. Empty lines and lines that begin with `#` say nothing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::find::Site;

pub(crate) struct Known {
    places: BTreeSet<(String, String)>,
}

impl Known {
    /// # Errors
    ///
    /// When the file cannot be read, or when a line of it names no mechanism.
    pub(crate) fn read(workspace: &Path) -> Result<Self, String> {
        let path = workspace.join("tests/mutants/healed.txt");
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut places = BTreeSet::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut parts = line.splitn(3, " | ");
            let (Some(file), Some(place), Some(_)) = (parts.next(), parts.next(), parts.next())
            else {
                return Err(format!("healed.txt:{}: expected FILE | PLACE | WHY", index + 1));
            };
            places.insert((file.to_owned(), place.to_owned()));
        }
        Ok(Self { places })
    }

    pub(crate) fn names(&self, site: &Site) -> bool {
        let shown = site.to_string();
        let place = shown.split_once(' ').map_or("", |(_, place)| place);
        self.places.contains(&(site.file.display().to_string(), place.to_owned()))
    }
}
