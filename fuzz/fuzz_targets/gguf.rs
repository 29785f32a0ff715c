//! Everything that reads a model file, up to the GPU: no bytes may make it panic, hang or
//! allocate more than a few times their own size.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use sunfleck::model::{ChatTemplate, Gguf, Hyperparameters, Tokenizer};

/// Most bytes read of one tensor, so that a run stays short. // bytes
const CHUNK: u64 = 4096;

fuzz_target!(|bytes: &[u8]| {
    let mut file = Cursor::new(bytes);
    let Ok(gguf) = Gguf::read(&mut file) else {
        return;
    };
    let mut chunk = Vec::new();
    for tensor in gguf.tensors() {
        // What was accepted must be there.
        let range = 0..tensor.byte_len.min(CHUNK);
        gguf.read_tensor_bytes(&mut file, tensor, range, &mut chunk)
            .expect("an accepted tensor lies inside the file");
    }
    if let Ok(hyperparameters) = Hyperparameters::from_gguf(&gguf) {
        let _ = hyperparameters.check_tensors(&gguf);
    }
    let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) else {
        return;
    };
    // A text with a name from the file in it, both ways.
    let name = tokenizer.name(0).unwrap_or_default();
    let text = format!("Hello {name} 123 \u{e9}\u{1f600}\n<|im_end|>");
    for parse_special in [false, true] {
        if let Ok(ids) = tokenizer.encode(&text, parse_special) {
            let decoded = tokenizer
                .decode(&ids)
                .expect("encoded ids are in the vocabulary");
            let mut stream = tokenizer.decode_stream();
            let mut streamed = String::new();
            for id in ids {
                let piece = stream.push(id).expect("encoded ids are in the vocabulary");
                streamed.extend(piece);
            }
            streamed.extend(stream.finish().expect("a stream always ends"));
            assert_eq!(streamed, decoded);
        }
    }
    if let Ok(template) = ChatTemplate::from_gguf(&gguf) {
        let _ = template.user_turn(&tokenizer, &text);
    }
});
