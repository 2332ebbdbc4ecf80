//! Moments on the wall's clock, for people and for files' names. Pure: whoever has a clock gives the time.

use std::fmt;

/// A moment in UTC, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc {
    /// Year.
    pub year: u64,
    /// 1..=12.
    pub month: u8,
    /// 1..=31.
    pub day: u8,
    /// 0..=23.
    pub hour: u8,
    /// 0..=59.
    pub minute: u8,
    /// 0..=59.
    pub second: u8,
}

impl Utc {
    /// The moment so many milliseconds after the begin of 1970. Days to a date as in Howard Hinnant, "chrono-Compatible
    /// Low-Level Date Algorithms".
    #[must_use]
    pub const fn of_ms(unix_ms: u64) -> Self {
        let unix_seconds = unix_ms / 1_000;
        let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self {
            year: year_of_era + era * 400 + if month <= 2 { 1 } else { 0 },
            month: month as u8,
            day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u8,
            hour: (second / 3600) as u8,
            minute: (second / 60 % 60) as u8,
            second: (second % 60) as u8,
        }
    }

    /// `20261121-101628`: for names of files.
    #[must_use]
    pub fn stamp(self) -> String {
        let Self { year, month, day, hour, minute, second } = self;
        format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
    }

    /// `10:16:28Z`: where the day is known.
    #[must_use]
    pub fn clock(self) -> String {
        format!("{:02}:{:02}:{:02}Z", self.hour, self.minute, self.second)
    }
}

impl fmt::Display for Utc {
    /// `2026-11-21 10:16:28Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02} {}", self.year, self.month, self.day, self.clock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (seconds, stamp) in [
            (0, "19700101-000000"),
            (951_782_399, "20000228-235959"),
            (951_782_400, "20000229-000000"),
            (1_795_256_188, "20261121-101628"),
        ] {
            assert_eq!(Utc::of_ms(seconds * 1_000 + 999).stamp(), stamp);
        }
        assert_eq!(Utc::of_ms(1_795_256_188_000).to_string(), "2026-11-21 10:16:28Z");
    }
}
