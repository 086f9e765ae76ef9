//! Reads Rust as far as the rules need: tokens with their lines, without comments and documentation.
//!
//! Tokens and not text, so that a word in a comment, a string or a longer name is not taken for code.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A file's tokens, groups opened out.
pub(super) struct Source {
    pub(super) tokens: Vec<Token>,
}

/// A word, a sign, a literal, or one side of a group.
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
    is_word: bool,
    in_test: bool,
}

impl Token {
    /// Whether this is the identifier or keyword `word`.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.is_word && self.text == word
    }

    fn is_sign(&self, sign: &str) -> bool {
        !self.is_word && self.text == sign
    }
}

impl Source {
    /// The tokens of a file.
    pub(super) fn read(text: &str) -> Result<Source, proc_macro2::LexError> {
        let mut tokens = Vec::new();
        open_out(text.parse()?, false, &mut tokens);
        Ok(Source { tokens })
    }

    /// The tokens outside items marked `#[cfg(test)]`.
    pub(super) fn without_tests(&self) -> impl Iterator<Item = &Token> {
        self.tokens.iter().filter(|token| !token.in_test)
    }

    /// The modules with files of their own that are declared for tests only.
    pub(super) fn test_modules(&self) -> Vec<String> {
        let declared = self.tokens.windows(3).filter(|window| {
            window[0].in_test && window[0].is_word("mod") && window[1].is_word && window[2].is_sign(";")
        });
        declared.map(|window| window[1].text.clone()).collect()
    }

    /// The first names after `crate::`, in `use` lines and elsewhere, with their lines.
    pub(super) fn crate_paths(&self) -> Vec<(String, usize)> {
        let mut paths = Vec::new();
        for at in 0..self.tokens.len() {
            if !self.tokens[at].is_word("crate") || !self.is_path_sign(at + 1) {
                continue;
            }
            let Some(next) = self.tokens.get(at + 3) else {
                continue;
            };
            if next.is_sign("{") {
                self.group_heads(at + 3, &mut paths);
            } else if !self.tokens.get(at + 4).is_some_and(|token| token.is_sign("!")) {
                // A macro of the crate has no module: `crate::name!`.
                paths.push((next.text.clone(), next.line));
            }
        }
        paths
    }

    /// The first name of each part of the group that opens at `open`.
    fn group_heads(&self, open: usize, heads: &mut Vec<(String, usize)>) {
        let mut depth = 0;
        let mut is_head = false;
        for token in &self.tokens[open..] {
            if is_head && token.is_word {
                heads.push((token.text.clone(), token.line));
            }
            is_head = false;
            match token.text.as_str() {
                "{" => {
                    depth += 1;
                    is_head = depth == 1;
                }
                "}" => depth -= 1,
                "," => is_head = depth == 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Lines where a chain of `super` climbs to the root of the crate, in a file that is `depth` modules deep.
    pub(super) fn supers_to_the_root(&self, depth: usize) -> Vec<usize> {
        let mut lines = Vec::new();
        // For each open brace, whether it is that of a module within the file.
        let mut braces: Vec<bool> = Vec::new();
        let mut chain = 0;
        for at in 0..self.tokens.len() {
            let token = &self.tokens[at];
            if token.is_sign("{") {
                braces.push(at >= 2 && self.tokens[at - 2].is_word("mod"));
            } else if token.is_sign("}") {
                braces.pop();
            } else if token.is_word("super") && self.is_path_sign(at + 1) {
                chain += 1;
                let inner = braces.iter().filter(|is_module| **is_module).count();
                if chain == depth + inner {
                    lines.push(token.line);
                }
                if !self.tokens.get(at + 3).is_some_and(|next| next.is_word("super")) {
                    chain = 0;
                }
            }
        }
        lines
    }

    /// The names of attributes with their lines.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (String, usize)> {
        self.tokens.windows(3).filter_map(|window| match window {
            [hash, bracket, name] if hash.is_sign("#") && bracket.is_sign("[") && name.is_word => {
                Some((name.text.clone(), name.line))
            }
            _ => None,
        })
    }

    fn is_path_sign(&self, at: usize) -> bool {
        self.tokens
            .get(at..at + 2)
            .is_some_and(|pair| pair.iter().all(|token| token.is_sign(":")))
    }
}

fn open_out(stream: TokenStream, in_test: bool, tokens: &mut Vec<Token>) {
    // Set by `#[cfg(test)]` until the end of the item that it marks.
    let mut marked = false;
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let in_test = in_test || marked;
        let line = tree.span().start().line;
        let mut push = |text: String, is_word: bool| {
            tokens.push(Token {
                text,
                line,
                is_word,
                in_test,
            })
        };
        match tree {
            TokenTree::Punct(sign) if sign.as_char() == '#' => {
                let inner =
                    trees.next_if(|next| matches!(next, TokenTree::Punct(sign) if sign.as_char() == '!'));
                match trees.peek().and_then(attribute) {
                    Some(Attribute::Doc) => {
                        trees.next();
                        continue;
                    }
                    Some(Attribute::Test) if inner.is_none() => marked = true,
                    _ => {}
                }
                push("#".to_owned(), false);
                if inner.is_some() {
                    push("!".to_owned(), false);
                }
            }
            TokenTree::Punct(sign) => {
                push(sign.as_char().to_string(), false);
                marked &= sign.as_char() != ';';
            }
            TokenTree::Ident(word) => push(word.to_string(), true),
            TokenTree::Literal(literal) => push(literal.to_string(), false),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::None => ("", ""),
                };
                push(open.to_owned(), false);
                open_out(group.stream(), in_test, tokens);
                let line = group.span_close().start().line;
                tokens.push(Token {
                    text: close.to_owned(),
                    line,
                    is_word: false,
                    in_test,
                });
                // A `use` has its braces in the middle; what follows them is one more sign.
                marked &= group.delimiter() != Delimiter::Brace;
            }
        }
    }
}

enum Attribute {
    Doc,
    Test,
}

/// The two attributes that matter here. A comment with three slashes is `#[doc = "..."]` by now.
fn attribute(tree: &TokenTree) -> Option<Attribute> {
    let TokenTree::Group(group) = tree else {
        return None;
    };
    if group.delimiter() != Delimiter::Bracket {
        return None;
    }
    let text: String = group.stream().to_string().split_whitespace().collect();
    if text.starts_with("doc=") {
        Some(Attribute::Doc)
    } else if text == "cfg(test)" {
        Some(Attribute::Test)
    } else {
        None
    }
}
