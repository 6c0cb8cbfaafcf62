//! Durations as the service writes them into its messages.

/// Seconds in the two largest units: `41 seconds`, `21 minutes and 33 seconds`, `24 days, 14 hours` \[M\]. What joins
/// hours and minutes, and the singular, have not been seen \[U\].
pub(super) fn humanised(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    let (first, joint, second) = if days > 0 {
        ((days, "day"), ", ", (hours, "hour"))
    } else if hours > 0 {
        ((hours, "hour"), ", ", (minutes, "minute"))
    } else if minutes > 0 {
        ((minutes, "minute"), " and ", (rest, "second"))
    } else {
        return counted(rest, "second");
    };
    match second {
        (0, _) => counted(first.0, first.1),
        (number, unit) => counted(first.0, first.1) + joint + &counted(number, unit),
    }
}

fn counted(number: u64, unit: &str) -> String {
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// Seconds as `00:06:46` \[M\]; from a day on with the days before it, `1.02:03:04` \[I\].
pub(super) fn clock(seconds: u64) -> String {
    let (days, hours, minutes, rest) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let days = if days > 0 { format!("{days}.") } else { String::new() };
    format!("{days}{hours:02}:{minutes:02}:{rest:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_the_service_was_seen_to() {
        for (seconds, text) in [
            (41, "41 seconds"),
            (1, "1 second"),
            (0, "0 seconds"),
            (21 * 60 + 33, "21 minutes and 33 seconds"),
            (180, "3 minutes"),
            (61, "1 minute and 1 second"),
            (23 * 3600, "23 hours"),
            (23 * 3600 + 59, "23 hours"),
            (3600 + 120, "1 hour, 2 minutes"),
            (2_124_000, "24 days, 14 hours"),
        ] {
            assert_eq!(humanised(seconds), text);
        }
        assert_eq!(clock(406), "00:06:46");
        assert_eq!(clock(86_400 + 7384), "1.02:03:04");
    }
}
