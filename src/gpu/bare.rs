//! Shader files without the lines that only people read: a page downloads them.

/// Bytes of [`text`].
pub(crate) const fn length(file: &str) -> usize {
    scan(file.as_bytes(), &mut [])
}

/// `file` without indentation, empty lines and lines that are a comment. Comments after code stay: a mark for
/// unrolling is one. `LENGTH` is [`length`].
pub(crate) const fn text<const LENGTH: usize>(file: &str) -> [u8; LENGTH] {
    let mut bare = [b'\n'; LENGTH];
    scan(file.as_bytes(), &mut bare);
    bare
}

/// Writes as much as `bare` has room for, and counts all.
const fn scan(file: &[u8], bare: &mut [u8]) -> usize {
    let (mut at, mut length) = (0, 0);
    while at < file.len() {
        while at < file.len() && (file[at] == b' ' || file[at] == b'\n') {
            at += 1;
        }
        let is_comment = at + 1 < file.len() && file[at] == b'/' && file[at + 1] == b'/';
        while at < file.len() {
            let byte = file[at];
            at += 1;
            if !is_comment {
                if length < bare.len() {
                    bare[length] = byte;
                }
                length += 1;
            }
            if byte == b'\n' {
                break;
            }
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_marks_stay_and_comments_go() {
        const FILE: &str = "// What it is.\n\nfn f() {\n    // Why.\n    for (;;) { // unroll\n        g(\"a\"); // ä\n    }\n}";
        const BARE: [u8; length(FILE)] = text(FILE);
        let bare = str::from_utf8(&BARE).unwrap();
        assert_eq!(bare, "fn f() {\nfor (;;) { // unroll\ng(\"a\"); // ä\n}\n}");
        assert_eq!(length(""), 0);
        assert_eq!(length("  // only this"), 0);
    }
}
