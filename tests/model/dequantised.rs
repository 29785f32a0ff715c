//! Dequantisation, bit for bit against another implementation: `tests/support/dequantised.py` wrote the
//! table with the numpy code of the package `gguf`.

use serde_json::Value;
use sunfleck::{
    gpu::BufferView,
    ops::{Embed, MatrixWriter, StepBuffer, WeightType},
    reference::blocks::{self, BlockFormat},
};

use crate::adapters::on_every_adapter;

/// Type, stored bytes, and the bits of the f32s.
fn table() -> Vec<(String, Vec<u8>, Vec<u32>)> {
    let table: Value = serde_json::from_str(include_str!("dequantised.json")).unwrap();
    let hex = |text: &str| u32::from_str_radix(text, 16).unwrap();
    let case = |case: &Value| {
        let stored = case["stored"].as_str().unwrap();
        let bytes = (0..stored.len()).step_by(2);
        let stored = bytes.map(|at| hex(&stored[at..at + 2]) as u8).collect();
        let bits = case["bits"].as_array().unwrap();
        let bits = bits.iter().map(|bits| hex(bits.as_str().unwrap()));
        (
            case["type"].as_str().unwrap().to_owned(),
            stored,
            bits.collect(),
        )
    };
    table.as_array().unwrap().iter().map(case).collect()
}

fn types(name: &str) -> (BlockFormat, WeightType) {
    match name {
        "F16" => (BlockFormat::F16, WeightType::F16),
        "BF16" => (BlockFormat::Bf16, WeightType::Bf16),
        "Q4_0" => (BlockFormat::Q4_0, WeightType::Q4_0),
        "Q4_1" => (BlockFormat::Q4_1, WeightType::Q4_1),
        "Q5_0" => (BlockFormat::Q5_0, WeightType::Q5_0),
        "Q5_1" => (BlockFormat::Q5_1, WeightType::Q5_1),
        "Q8_0" => (BlockFormat::Q8_0, WeightType::Q8_0),
        "Q4_K" => (BlockFormat::Q4K, WeightType::Q4K),
        "Q5_K" => (BlockFormat::Q5K, WeightType::Q5K),
        "Q6_K" => (BlockFormat::Q6K, WeightType::Q6K),
        other => panic!("{other} is not in the list"),
    }
}

/// As bits, with one zero: the sign of a product with zero is nobody's promise.
fn bits(values: impl IntoIterator<Item = f32>) -> Vec<u32> {
    values.into_iter().map(|v| (v + 0.0).to_bits()).collect()
}

fn expected(stored: &[u32]) -> Vec<u32> {
    bits(stored.iter().map(|word| f32::from_bits(*word)))
}

#[test]
fn the_twin_gives_the_bits_of_another_implementation() {
    let table = table();
    assert_eq!(table.len(), 10);
    for (name, stored, words) in &table {
        let twin = blocks::dequantise(types(name).0, stored).unwrap();
        let twin = bits(twin.into_iter().map(|v| v as f32));
        assert_eq!(twin, expected(words), "{name}");
    }
}

#[test]
fn the_kernels_give_the_bits_of_another_implementation() {
    on_every_adapter(|gpu| {
        for (name, stored, words) in &table() {
            let columns = words.len() as u32;
            let weight_type = types(name).1;
            let mut writer = MatrixWriter::new(&gpu.gpu, "w", weight_type, 1, columns).unwrap();
            assert_eq!(writer.row_bytes(), stored.len(), "{name}");
            writer.push_rows(stored);
            let matrix = writer.finish();
            let ids = gpu.gpu.storage_with("tokens", &[0u32]).unwrap();
            let y = gpu.gpu.storage("y", u64::from(columns) * 4).unwrap();
            let step = StepBuffer::new(&gpu.gpu, 1, 0).unwrap();
            let [ids, out] = [&ids, &y].map(BufferView::whole);
            let embed = Embed::new(&gpu.gpu, &matrix, &step, ids, out, columns);
            let embed = pollster::block_on(embed).unwrap();
            gpu.run(|pass| embed.encode(pass, 1));
            let got: Vec<f32> = gpu.read(&y);
            assert_eq!(bits(got), expected(words), "{} {name}", gpu.name);
        }
    });
}
