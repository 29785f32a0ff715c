//! Unrolling of marked loops in the text of a kernel.
//!
//! WGSL has no way to ask a compiler for it, and drivers differ: one keeps an array in memory as
//! soon as a loop that is not unrolled indexes it, another unrolls only small loops. On an NVIDIA
//! H200 the prefill kernels ran 1.5 times (f32) and 2.5 times (cooperative matrices) as fast
//! with their inner loops unrolled here. A loop is marked by its first line,
//!
//! ```wgsl
//! for (var i = 0u; i < BOUND; i++) { // unroll
//! ```
//!
//! where `BOUND` is a constant expression. The mark is a comment: the file means the same without.

use std::collections::HashMap;

/// `text` with every marked loop written out. A loop whose bound is no constant stays a loop.
pub(super) fn unroll(text: &str) -> String {
    let constants = constants(text);
    let mut out = String::with_capacity(text.len());
    expand(text, &constants, &mut out);
    out
}

fn expand(text: &str, constants: &HashMap<String, u32>, out: &mut String) {
    let mut rest = text;
    while let Some((before, marked)) = next_loop(rest, constants) {
        out.push_str(before);
        for i in 0..marked.count {
            let body = substitute(marked.body, marked.variable, &format!("{i}u"));
            out.push('{');
            expand(&body, constants, out);
            out.push_str("}\n");
        }
        rest = marked.after;
    }
    out.push_str(rest);
}

struct Loop<'a> {
    variable: &'a str,
    count: u32,
    body: &'a str,
    after: &'a str,
}

/// The first marked loop that can be unrolled, and the text before it.
fn next_loop<'a>(text: &'a str, constants: &HashMap<String, u32>) -> Option<(&'a str, Loop<'a>)> {
    const OPEN: &str = "for (var ";
    const MARK: &str = "++) { // unroll\n";
    let mut from = 0;
    while let Some(found) = text[from..].find(OPEN) {
        let start = from + found;
        from = start + OPEN.len();
        let head = &text[from..];
        let line_end = head.find('\n').map_or(head.len(), |end| end + 1);
        let Some(mark) = head[..line_end].find(MARK) else {
            continue;
        };
        let Some((variable, condition)) = head[..mark].split_once(" = 0u; ") else {
            continue;
        };
        let bound = condition
            .strip_prefix(variable)
            .and_then(|c| c.strip_prefix(" < "))
            .and_then(|c| c.strip_suffix(variable))
            .and_then(|c| c.strip_suffix("; "))
            .and_then(|bound| evaluate(bound, constants));
        let inside = &head[mark + MARK.len()..];
        let (Some(count), Some(close)) = (bound, matching_brace(inside)) else {
            continue;
        };
        return Some((
            &text[..start],
            Loop {
                variable,
                count,
                body: &inside[..close],
                after: &inside[close + 1..],
            },
        ));
    }
    None
}

/// Where the brace closes that was opened before `text`.
fn matching_brace(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `text` with the identifier `name` replaced.
fn substitute(text: &str, name: &str, by: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let end = at + name.len();
        let whole = !rest[..at].bytes().next_back().is_some_and(is_word)
            && !rest[end..].bytes().next().is_some_and(is_word);
        // A member of that name is none of ours.
        let member = rest[..at].ends_with('.');
        out.push_str(&rest[..at]);
        out.push_str(if whole && !member { by } else { name });
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// The `const NAME: u32 = ...;` of a text whose value follows from numbers and earlier ones.
fn constants(text: &str) -> HashMap<String, u32> {
    let mut constants = HashMap::new();
    for statement in text.split(';') {
        let Some((_, declaration)) = statement.rsplit_once("const ") else {
            continue;
        };
        let Some((name, expression)) = declaration.split_once(": u32 = ") else {
            continue;
        };
        if let Some(value) = evaluate(expression, &constants) {
            constants.insert(name.to_owned(), value);
        }
    }
    constants
}

/// The value of an expression of numbers, constants, `+ - * / %`, parentheses, `min` and `max`.
fn evaluate(expression: &str, constants: &HashMap<String, u32>) -> Option<u32> {
    let mut parser = Parser {
        rest: expression.trim(),
        constants,
    };
    let value = parser.sum()?;
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
    constants: &'a HashMap<String, u32>,
}

impl Parser<'_> {
    fn eat(&mut self, token: char) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Option<u32> {
        let mut value = self.product()?;
        loop {
            value = if self.eat('+') {
                value.checked_add(self.product()?)?
            } else if self.eat('-') {
                value.checked_sub(self.product()?)?
            } else {
                return Some(value);
            };
        }
    }

    fn product(&mut self) -> Option<u32> {
        let mut value = self.atom()?;
        loop {
            value = if self.eat('*') {
                value.checked_mul(self.atom()?)?
            } else if self.eat('/') {
                value.checked_div(self.atom()?)?
            } else if self.eat('%') {
                value.checked_rem(self.atom()?)?
            } else {
                return Some(value);
            };
        }
    }

    fn atom(&mut self) -> Option<u32> {
        if self.eat('(') {
            let value = self.sum()?;
            return self.eat(')').then_some(value);
        }
        let end = self
            .rest
            .bytes()
            .position(|byte| !is_word(byte))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if matches!(word, "min" | "max") && self.eat('(') {
            let first = self.sum()?;
            let second = self.eat(',').then(|| self.sum())??;
            return self.eat(')').then_some(match word {
                "min" => first.min(second),
                _ => first.max(second),
            });
        }
        match word.strip_suffix('u').unwrap_or(word).parse() {
            Ok(number) => Some(number),
            Err(_) => self.constants.get(word).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_loops_are_written_out_and_others_stay() {
        let text = "const N: u32 = 1u + 1u;\n\
            for (var i = 0u; i < N; i++) { // unroll\na[i] = item.i + i1;\n}\n\
            for (var j = 0u; j < N; j++) {\nb(j);\n}\n\
            for (var k = 0u; k < n; k++) { // unroll\nc(k);\n}\n";
        let expected = "const N: u32 = 1u + 1u;\n\
            {a[0u] = item.i + i1;\n}\n{a[1u] = item.i + i1;\n}\n\n\
            for (var j = 0u; j < N; j++) {\nb(j);\n}\n\
            for (var k = 0u; k < n; k++) { // unroll\nc(k);\n}\n";
        assert_eq!(unroll(text), expected);
    }

    #[test]
    fn loops_inside_loops_see_the_outer_number() {
        let text = "for (var i = 0u; i < 2u; i++) { // unroll\n\
            for (var j = 0u; j < i + 1u; j++) { // unroll\nf(i, j);\n}\n}\n";
        let flat: String = unroll(text).split_whitespace().collect();
        assert_eq!(flat, "{{f(0u,0u);}}{{f(1u,0u);}{f(1u,1u);}}");
    }

    #[test]
    fn constants_may_build_on_each_other() {
        let constants = constants(
            "const A: u32 = 7u;\n// const X\nconst B: u32 = (A + 1u) / 2u;\nconst C: u32 = max(B, 3u) % 3u;\nconst F: f32 = 1.0;",
        );
        assert_eq!(constants.get("B"), Some(&4));
        assert_eq!(constants.get("C"), Some(&1));
        assert_eq!(evaluate("B * (A - 2u)", &constants), Some(20));
        assert_eq!(evaluate("A - 8u", &constants), None);
        assert_eq!(evaluate("unknown + 1u", &constants), None);
    }
}
