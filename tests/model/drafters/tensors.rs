//! Random weights of drafters: a safetensors file in the making, and the values as it stores them.

use crate::random::Random;

/// F16 tensors of random values.
pub struct Tensors<'a> {
    random: &'a mut Random,
    header: serde_json::Map<String, serde_json::Value>,
    data: Vec<u8>,
}

impl<'a> Tensors<'a> {
    pub fn new(random: &'a mut Random) -> Self {
        Self {
            random,
            header: serde_json::Map::new(),
            data: Vec::new(),
        }
    }

    /// Normal values; rows of matrices have a length of about `scale`.
    pub fn add(&mut self, name: &str, shape: &[usize], scale: f32) -> Vec<f32> {
        let scale = match shape {
            [_, columns] => scale / (*columns as f32).sqrt(),
            _ => 1.0,
        };
        let first = self.data.len();
        let mut values = Vec::new();
        for x in self.random.normals(shape.iter().product()) {
            let stored = half::f16::from_f32(x * scale);
            self.data.extend(stored.to_le_bytes());
            values.push(stored.to_f32());
        }
        let entry = serde_json::json!({
            "dtype": "F16", "shape": shape, "data_offsets": [first, self.data.len()],
        });
        self.header.insert(name.to_owned(), entry);
        values
    }

    pub fn bytes(self) -> Vec<u8> {
        let header = serde_json::to_vec(&self.header).unwrap();
        let length = (header.len() as u64).to_le_bytes().to_vec();
        [length, header, self.data].concat()
    }
}
