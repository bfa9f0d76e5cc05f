//! Texts that others wrote, made fit to be shown: without our secrets, without control characters,
//! and short. An STS answer, above all that to a wrong signature, can quote what we sent.

/// Characters of a foreign text that are shown.
const MAX_SHOWN: usize = 300;
/// Characters of it that are looked at; an answer may have a megabyte.
const MAX_READ: usize = 4096;
/// This many characters in a row of a secret give it away: an answer may quote a part of it.
const TELLING: usize = 8;
/// What has so many letters, digits or `+/=` in a row looks like a key, perhaps one that we held
/// once: secret keys have 40, tokens hundreds.
const KEY_LIKE: usize = 40;

/// `text` with every part of one of `secrets` and all that looks like one replaced by `[hidden]`,
/// what could command a terminal escaped, at most 300 characters long.
pub(super) fn presentable<'a>(text: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let text = match text.char_indices().nth(MAX_READ) {
        Some((end, _)) => &text[..end],
        None => text,
    };
    let bytes = text.as_bytes();
    let mut hidden = vec![false; bytes.len()];
    for secret in secrets.into_iter().filter(|s| !s.is_empty()) {
        let secret = secret.as_bytes();
        let length = secret.len().min(TELLING);
        for start in 0..(bytes.len() + 1).saturating_sub(length) {
            let window = &bytes[start..start + length];
            if secret.windows(length).any(|part| part == window) {
                hidden[start..start + length].fill(true);
            }
        }
    }
    let is_key_byte = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
    let mut start = 0;
    for run in bytes.split(|b| !is_key_byte(b)) {
        if run.len() >= KEY_LIKE {
            hidden[start..start + run.len()].fill(true);
        }
        start += run.len() + 1;
    }
    let mut shown = String::new();
    let mut after_hidden = false;
    for (at, c) in text.char_indices() {
        if shown.chars().count() >= MAX_SHOWN {
            shown.push('…');
            break;
        }
        match (hidden[at], c) {
            (true, _) if after_hidden => {}
            (true, _) => shown.push_str("[hidden]"),
            (false, '"' | '\'' | '\\') => shown.push(c),
            (false, _) => shown.extend(c.escape_debug()),
        }
        after_hidden = hidden[at];
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_whole_and_in_part() {
        let secrets = ["wJalrXUtnFEMI/K7MDENG", "IQoJb3JpZ2luX2Vj//8="];
        for (text, shown) in [
            ("all is well", "all is well"),
            ("key wJalrXUtnFEMI/K7MDENG!", "key [hidden]!"),
            (
                "token IQoJb3JpZ2luX2Vj%2F%2F8%3D",
                "token [hidden]%2F%2F8%3D",
            ),
            ("cut XUtnFEMI/K7", "cut [hidden]"),
            ("wJalrXUtnFEMI/K7MDENGIQoJb3JpZ2luX2Vj//8=", "[hidden]"),
            ("wJalr", "wJalr"),
        ] {
            assert_eq!(presentable(text, secrets), shown);
        }
        assert_eq!(
            presentable("a short one: tiny", ["tiny", ""]),
            "a short one: [hidden]"
        );
    }

    #[test]
    fn what_looks_like_a_key_is_hidden_whosever_it_is() {
        let key = "Zq7/xW+kPd3Lm9vTb5RtGc4/yBnHs8Jf2wKe6Q12";
        assert_eq!(
            presentable(&format!("once {key}, and"), []),
            "once [hidden], and"
        );
        let arn =
            "arn:aws:sts::123456789012:assumed-role/a-role-of-some-length/i-1234567890abcdef0";
        assert_eq!(presentable(arn, []), arn);
    }

    #[test]
    fn a_foreign_text_can_neither_command_a_terminal_nor_fill_a_log() {
        assert_eq!(
            presentable("a\r\nb\x1b[2J\u{202e}é'\"", []),
            "a\\r\\nb\\u{1b}[2J\\u{202e}é'\""
        );
        assert_eq!(
            presentable(&"x ".repeat(5000), []).chars().count(),
            MAX_SHOWN + 1
        );
    }
}
