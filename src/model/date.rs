//! Today's date for chat templates that write it into the prompt.

use web_time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The current date and time (UTC) in a `strftime` format, or the directive that isn't known.
pub(super) fn format_now(format: &str) -> Result<String, char> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    format_seconds(since.map_or(0, |time| time.as_secs()), format)
}

/// `seconds` since 1970-01-01 in the directives that templates use.
fn format_seconds(seconds: u64, format: &str) -> Result<String, char> {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let week_day = DAYS[(days % 7) as usize]; // 1970-01-01 was a Thursday
    let month_name = MONTHS[(month - 1) as usize];
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let directive = letters.next().unwrap_or('%');
        text += &match directive {
            'Y' => format!("{year}"),
            'y' => format!("{:02}", year % 100),
            'm' => format!("{month:02}"),
            'd' => format!("{day:02}"),
            'B' => month_name.to_owned(),
            'b' | 'h' => month_name[..3].to_owned(),
            'A' => week_day.to_owned(),
            'a' => week_day[..3].to_owned(),
            'H' => format!("{:02}", second / 3600),
            'M' => format!("{:02}", second / 60 % 60),
            'S' => format!("{:02}", second % 60),
            'F' => format!("{year}-{month:02}-{day:02}"),
            'T' => format!(
                "{:02}:{:02}:{:02}",
                second / 3600,
                second / 60 % 60,
                second % 60
            ),
            '%' => "%".to_owned(),
            unknown => return Err(unknown),
        };
    }
    Ok(text)
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Whole cycles of 400 years first, so that any clock ends soon.
    let (mut year, mut rest) = (1970 + days / 146_097 * 400, days % 146_097);
    while rest >= 365 + u64::from(leap(year)) {
        rest -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |seconds| format_seconds(seconds, "%A %d %b %Y %T").unwrap();
        assert_eq!(date(0), "Thursday 01 Jan 1970 00:00:00");
        assert_eq!(date(951_782_399), "Monday 28 Feb 2000 23:59:59");
        assert_eq!(date(951_782_400), "Tuesday 29 Feb 2000 00:00:00");
        assert_eq!(date(1_735_689_599), "Tuesday 31 Dec 2024 23:59:59");
        assert_eq!(date(4_107_542_400), "Monday 01 Mar 2100 00:00:00");
    }

    #[test]
    fn any_clock_has_a_date_and_unknown_directives_are_named() {
        assert!(format_seconds(u64::MAX, "%F").is_ok());
        assert_eq!(format_seconds(0, "%Q"), Err('Q'));
        assert_eq!(format_seconds(0, "100%"), Ok("100%".to_owned()));
    }
}
