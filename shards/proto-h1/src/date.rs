//! Date: the IMF-fixdate of RFC 9110, 5.6.7, from a number of seconds.
//!
//! Not here: a clock. The shard formats one date a second and lends it to every answer.

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// 9999-12-31 23:59:59, the last second a four-digit year can name.
const UNIX_SECS_MAX: u64 = 253_402_300_799;

/// Writes `Sun, 06 Nov 1994 08:49:37 GMT` for `unix_secs` seconds after 1970-01-01 00:00:00 UTC.
///
/// Seconds past the year 9999 are written as its last second. About 60 instructions.
///
/// The civil date follows the days-to-civil method of H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms": years start on 1 March, so that the leap day is the last one of a year.
pub fn write_date(unix_secs: u64, out: &mut [u8; 29]) {
    let secs = unix_secs.min(UNIX_SECS_MAX);
    let days = secs / 86_400;
    let second = secs % 86_400;
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted / 146_097; // 400 years each
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 2 } else { month_shifted - 10 }; // 0 is January
    let year = era * 400 + year_of_era + u64::from(month < 2);

    out.copy_from_slice(b"ddd, 00 mmm 0000 00:00:00 GMT");
    out[0..3].copy_from_slice(DAYS[usize::try_from(days % 7).unwrap_or(0)]);
    two(&mut out[5..7], day);
    out[8..11].copy_from_slice(MONTHS[usize::try_from(month).unwrap_or(0)]);
    two(&mut out[12..14], year / 100);
    two(&mut out[14..16], year % 100);
    two(&mut out[17..19], second / 3_600);
    two(&mut out[20..22], second / 60 % 60);
    two(&mut out[23..25], second % 60);
}

/// Writes `value` (0..=99) as two decimal digits.
fn two(out: &mut [u8], value: u64) {
    debug_assert!(value < 100);
    let digit = |d: u64| b'0' + u8::try_from(d % 10).unwrap_or(0);
    out[0] = digit(value / 10);
    out[1] = digit(value);
}

#[cfg(test)]
mod tests {
    use super::write_date;

    fn date(secs: u64) -> String {
        let mut out = [0; 29];
        write_date(secs, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn known_seconds_have_their_published_dates() {
        assert_eq!(date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT"); // RFC 9110, 5.6.7
        assert_eq!(date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(date(951_868_799), "Tue, 29 Feb 2000 23:59:59 GMT");
        assert_eq!(date(951_868_800), "Wed, 01 Mar 2000 00:00:00 GMT");
        assert_eq!(date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
        assert_eq!(date(253_402_300_799), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn seconds_past_the_year_9999_stay_on_its_last_second() {
        assert_eq!(date(253_402_300_800), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn each_day_of_four_centuries_follows_the_one_before() {
        let mut month_days = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut names = super::MONTHS.iter().map(|m| String::from_utf8_lossy(*m).into_owned());
        let names: Vec<String> = names.by_ref().collect();
        let mut expected = (1970_u64, 0_usize, 1_u64);
        for day in 0..146_097_u64 {
            let (year, month, dom) = expected;
            let text = date(day * 86_400 + 1);
            assert_eq!(&text[5..16], format!("{dom:02} {} {year}", names[month]).as_str());
            let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            month_days[1] = if leap { 29 } else { 28 };
            expected = if dom < month_days[month] {
                (year, month, dom + 1)
            } else if month < 11 {
                (year, month + 1, 1)
            } else {
                (year + 1, 0, 1)
            };
        }
    }
}
