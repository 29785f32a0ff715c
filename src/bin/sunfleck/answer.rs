//! Streaming an answer to standard output.

use std::{error::Error, io::Write as _};

use sunfleck::{
    generate::{Finish, Origin, Statistics, StopStrings, TextStream, Token, TokenStream},
    model::Tokenizer,
};

use crate::{adapter::OpenDevice, color::Palette, print};

/// A finished answer.
pub struct Answer {
    /// Its tokens, those of a stop string included.
    pub tokens: Vec<Token>,
    /// Its text, without the stop string.
    pub text: String,
    pub statistics: Statistics,
    pub finish: Option<Finish>,
}

/// Where an answer is shown.
pub struct Output {
    palette: Option<Palette>, // none: not at all
    open: bool,               // whether somebody still reads it
}

impl Output {
    /// Standard output in these colours, or nothing.
    pub fn new(palette: Option<Palette>) -> Self {
        Self {
            palette,
            open: true,
        }
    }

    /// Whether somebody still reads it.
    pub fn is_open(&self) -> bool {
        self.open
    }

    fn write(&mut self, text: &str, origin: Origin) -> Result<(), String> {
        if let (Some(palette), true) = (self.palette, self.open) {
            let mut out = std::io::stdout().lock();
            let written = out.write_all(palette.paint(text, origin).as_bytes());
            self.open = print::still_read(written.and_then(|()| out.flush()))?;
        }
        Ok(())
    }
}

/// Shows an answer as it comes; it ends before any of `stops`. Without a tokenizer it has no text.
pub async fn write(
    mut stream: TokenStream<'_>,
    tokenizer: Option<&Tokenizer>,
    stops: &[String],
    out: &mut Output,
    device: &OpenDevice,
) -> Result<Answer, Box<dyn Error>> {
    let mut text = String::new();
    let Some(tokenizer) = tokenizer else {
        let mut tokens = Vec::new();
        while let Some(token) = stream.next_token().await {
            device.check()?;
            tokens.push(token?);
        }
        return Ok(Answer {
            tokens,
            text,
            statistics: *stream.statistics(),
            finish: stream.finish(),
        });
    };
    let mut pieces = TextStream::new(stream, tokenizer, StopStrings::new(stops));
    while let Some(piece) = pieces.next_piece().await {
        device.check()?;
        let piece = piece?;
        text.push_str(&piece.text);
        out.write(&piece.text, piece.origin)?;
        if !out.is_open() {
            break;
        }
    }
    out.write("\n", Origin::Plain)?;
    Ok(Answer {
        tokens: pieces.tokens().to_vec(),
        text,
        statistics: *pieces.stream().statistics(),
        finish: pieces.stream().finish(),
    })
}
