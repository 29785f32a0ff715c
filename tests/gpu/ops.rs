//! Linear layers, embedding, RMSNorm and argmax against their twins.

use sunfleck::{
    gpu::{BufferView, Gpu},
    ops::{
        Argmax, Bias, Embed, Epilogue, HeadNorm, HeadNormIo, Linear, LinearIo, Matrix,
        MatrixWriter, RmsNorm, RmsNormIo, Rows, StepBuffer, SwiGlu, WeightType,
    },
    reference::{
        activation,
        blocks::{self, BlockFormat},
        compare::{Tolerance, compare},
        linear as twin, norm, reduce,
    },
};

use crate::{
    adapters::{TestGpu, on_every_adapter},
    random::Random,
};

pub fn format(weight_type: WeightType) -> BlockFormat {
    match weight_type {
        WeightType::F32 => BlockFormat::F32,
        WeightType::F16 => BlockFormat::F16,
        WeightType::Q8_0 => BlockFormat::Q8_0,
        WeightType::Q4_0 => BlockFormat::Q4_0,
        WeightType::Q4_1 => BlockFormat::Q4_1,
        WeightType::Bf16 => BlockFormat::Bf16,
        WeightType::Q5_0 => BlockFormat::Q5_0,
        WeightType::Q5_1 => BlockFormat::Q5_1,
        WeightType::Q4K => BlockFormat::Q4K,
        WeightType::Q5K => BlockFormat::Q5K,
        WeightType::Q6K => BlockFormat::Q6K,
        other => panic!("no twin for {other:?}"),
    }
}

/// Random weights as stored bytes, and dequantised by the twin: `[row, column]`.
fn weights(
    random: &mut Random,
    ty: WeightType,
    rows: usize,
    columns: usize,
) -> (Vec<u8>, Vec<f64>) {
    let values = random.normals(rows * columns);
    let bytes = blocks::quantise(format(ty), &values).unwrap();
    let dequantised = blocks::dequantise(format(ty), &bytes).unwrap();
    (bytes, dequantised)
}

fn upload(gpu: &TestGpu, ty: WeightType, rows: usize, columns: usize, bytes: &[u8]) -> Matrix {
    let mut writer = MatrixWriter::new(&gpu.gpu, "w", ty, rows as u32, columns as u32).unwrap();
    // In two pieces, the first not a whole tile.
    let cut = writer.row_bytes() * (rows / 3);
    writer.push_rows(&bytes[..cut]);
    writer.push_rows(&bytes[cut..]);
    writer.finish()
}

/// `x` with rows padded to a multiple of 32 columns.
fn pad_rows(x: &[f32], columns: usize) -> (Vec<f32>, usize) {
    let stride = columns.next_multiple_of(32);
    let rows = x.chunks_exact(columns).flat_map(|row| {
        let padding = std::iter::repeat_n(0.0, stride - columns);
        row.iter().copied().chain(padding)
    });
    (rows.collect(), stride)
}

/// Columns of a stored block.
fn blocks_of(ty: WeightType) -> usize {
    format(ty).block_elements()
}

const CANARY: f32 = 12345.0;

fn linear(
    gpu: &TestGpu,
    ty: WeightType,
    epilogue: Epilogue,
    tokens: usize,
    rows: usize,
    columns: usize,
) {
    let mut random = Random(7 + tokens as u64);
    let (bytes, w) = weights(&mut random, ty, rows, columns);
    let x = random.normals(tokens * columns);
    let residual = random.normals(tokens * rows);
    let matrix = upload(gpu, ty, rows, columns, &bytes);
    let (x_padded, x_stride) = pad_rows(&x, columns);
    let x_buffer = gpu.gpu.storage_with("x", &x_padded).unwrap();
    // A canary before and after each token's results.
    let y_stride = rows + 2;
    let mut y = vec![CANARY; tokens * y_stride];
    for t in 0..tokens {
        y[t * y_stride + 1..][..rows].copy_from_slice(&residual[t * rows..][..rows]);
    }
    let y_buffer = gpu.gpu.storage_with("y", &y).unwrap();
    let step = StepBuffer::new(&gpu.gpu, tokens as u32, 0).unwrap();
    let io = LinearIo {
        x: BufferView::whole(&x_buffer),
        x_stride: x_stride as u32,
        y: BufferView::whole(&y_buffer),
        y_stride: y_stride as u32,
        y_offset: 1,
    };
    let layer = pollster::block_on(Linear::new(&gpu.gpu, &matrix, epilogue, &step, &io)).unwrap();
    gpu.run(|pass| layer.encode(pass, tokens as u32));
    let got: Vec<f32> = gpu.read(&y_buffer);
    let residual: Option<Vec<f64>> =
        (epilogue == Epilogue::Add).then(|| residual.iter().map(|v| f64::from(*v)).collect());
    let expected = twin::linear(&x, &w, residual.as_deref(), tokens, columns, rows).unwrap();
    let result: Vec<f32> = (0..tokens)
        .flat_map(|t| got[t * y_stride + 1..][..rows].to_vec())
        .collect();
    let what = format!(
        "{}: linear {ty:?} {epilogue:?} {tokens}x{rows}x{columns}",
        gpu.name
    );
    compare(&what, &result, &expected, Tolerance::F32).unwrap();
    for t in 0..tokens {
        assert_eq!(got[t * y_stride], CANARY, "{what}: before token {t}");
        assert_eq!(
            got[t * y_stride + rows + 1],
            CANARY,
            "{what}: after token {t}"
        );
    }
}

#[test]
fn linear_layers_equal_their_twin_for_every_weight_type() {
    on_every_adapter(|gpu| {
        for ty in WeightType::ALL {
            let block = blocks_of(ty);
            for tokens in [1, 2, 3, 5, 16, 19] {
                linear(gpu, ty, Epilogue::Assign, tokens, 96, block.max(64));
            }
            // Rows that do not fill a tile, and more than one super-block.
            linear(
                gpu,
                ty,
                Epilogue::Add,
                3,
                40,
                576usize.next_multiple_of(block),
            );
        }
        linear(gpu, WeightType::Q4_1, Epilogue::Add, 70, 130, 96); // more than two blocks of tokens
        linear(gpu, WeightType::F32, Epilogue::Assign, 2, 33, 20); // columns that do not fill a block
        linear(gpu, WeightType::F16, Epilogue::Assign, 2, 7, 52);
    });
}

#[test]
fn swiglu_fused_into_the_linear_layer_equals_its_twin() {
    on_every_adapter(|gpu| {
        let (columns, tokens) = (64, 3);
        for (ty, width) in [(WeightType::Q4_1, 48), (WeightType::F32, 20)] {
            let mut random = Random(11);
            let (gate_bytes, gate) = weights(&mut random, ty, width, columns);
            let (up_bytes, up) = weights(&mut random, ty, width, columns);
            let x = random.normals(tokens * columns);
            let halves = width.next_multiple_of(16);
            let mut writer =
                MatrixWriter::new(&gpu.gpu, "gu", ty, 2 * halves as u32, columns as u32).unwrap();
            let row = writer.row_bytes();
            for first in (0..halves).step_by(16) {
                for bytes in [&gate_bytes, &up_bytes] {
                    let mut sixteen = bytes[first * row..(first + 16).min(width) * row].to_vec();
                    sixteen.resize(16 * row, 0);
                    writer.push_rows(&sixteen);
                }
            }
            let matrix = writer.finish();
            let x_buffer = gpu.gpu.storage_with("x", &x).unwrap();
            let y_buffer = gpu.gpu.storage("y", (tokens * halves * 4) as u64).unwrap();
            let step = StepBuffer::new(&gpu.gpu, tokens as u32, 0).unwrap();
            let io = LinearIo {
                x: BufferView::whole(&x_buffer),
                x_stride: columns as u32,
                y: BufferView::whole(&y_buffer),
                y_stride: halves as u32,
                y_offset: 0,
            };
            let layer =
                pollster::block_on(Linear::new(&gpu.gpu, &matrix, Epilogue::SwiGlu, &step, &io))
                    .unwrap();
            gpu.run(|pass| layer.encode(pass, tokens as u32));
            let got: Vec<f32> = gpu.read(&y_buffer);
            let result: Vec<f32> = (0..tokens)
                .flat_map(|t| got[t * halves..][..width].to_vec())
                .collect();
            let expected = twin::linear_swiglu(&x, &gate, &up, tokens, columns, width).unwrap();
            compare(&gpu.name, &result, &expected, Tolerance::F32).unwrap();
        }
    });
}

#[test]
fn swiglu_on_its_own_equals_its_twin() {
    on_every_adapter(|gpu| {
        let (rows, width, stride) = (3, 100, 128);
        let mut random = Random(5);
        let gate = random.normals(rows * stride);
        let up = random.normals(rows * stride);
        let gate_buffer = gpu.gpu.storage_with("gate", &gate).unwrap();
        let up_buffer = gpu.gpu.storage_with("up", &up).unwrap();
        let step = StepBuffer::new(&gpu.gpu, rows as u32, 0).unwrap();
        let op = pollster::block_on(SwiGlu::new(
            &gpu.gpu,
            &step,
            BufferView::whole(&gate_buffer),
            BufferView::whole(&up_buffer),
            width as u32,
            stride as u32,
        ))
        .unwrap();
        gpu.run(|pass| op.encode(pass, rows as u32));
        let got: Vec<f32> = gpu.read(&up_buffer);
        let expected = activation::swiglu(&gate, &up).unwrap();
        for row in 0..rows {
            let at = row * stride;
            let (got, kept) = got[at..at + stride].split_at(width);
            compare(&gpu.name, got, &expected[at..at + width], Tolerance::F32).unwrap();
            assert_eq!(kept, &up[at + width..at + stride], "{}: padding", gpu.name);
        }
    });
}

#[test]
fn embedding_equals_its_twin_for_every_weight_type() {
    on_every_adapter(|gpu| {
        let vocabulary = 75;
        let tokens = [74u32, 0, 31, 32, 5, 74];
        for ty in WeightType::ALL {
            let width = blocks_of(ty).max(64);
            let mut random = Random(3);
            let (bytes, table) = weights(&mut random, ty, vocabulary, width);
            let matrix = upload(gpu, ty, vocabulary, width, &bytes);
            let ids = gpu.gpu.storage_with("tokens", &tokens).unwrap();
            let y = gpu
                .gpu
                .storage("y", (tokens.len() * width * 4) as u64)
                .unwrap();
            let step = StepBuffer::new(&gpu.gpu, tokens.len() as u32, 0).unwrap();
            let embed = pollster::block_on(Embed::new(
                &gpu.gpu,
                &matrix,
                &step,
                BufferView::whole(&ids),
                BufferView::whole(&y),
                width as u32,
            ))
            .unwrap();
            gpu.run(|pass| embed.encode(pass, tokens.len() as u32));
            let got: Vec<f32> = gpu.read(&y);
            let expected: Vec<f64> = tokens
                .iter()
                .flat_map(|t| table[*t as usize * width..][..width].to_vec())
                .collect();
            // Bit for bit what ggml's rounding to f32 gives.
            let expected: Vec<f32> = expected.iter().map(|v| *v as f32).collect();
            assert_eq!(got, expected, "{} {ty:?}", gpu.name);
        }
    });
}

#[test]
fn rms_norm_equals_its_twin_and_can_take_the_last_row_alone() {
    on_every_adapter(|gpu| {
        let (rows, width, stride) = (5, 52, 64);
        let mut random = Random(9);
        let x = random.normals(rows * stride);
        let weight = random.normals(width);
        let x_buffer = gpu.gpu.storage_with("x", &x).unwrap();
        let weight_buffer = gpu.gpu.storage_with("weight", &weight).unwrap();
        let y_buffer = gpu.gpu.storage("y", (rows * stride * 4) as u64).unwrap();
        let step = StepBuffer::new(&gpu.gpu, rows as u32, 0).unwrap();
        let io = RmsNormIo {
            x: BufferView::whole(&x_buffer),
            weight: BufferView::whole(&weight_buffer),
            y: BufferView::whole(&y_buffer),
            width: width as u32,
            stride: stride as u32,
        };
        let expected =
            |row: usize| norm::rms_norm(&x[row * stride..][..width], &weight, 1e-5).unwrap();
        let all = pollster::block_on(RmsNorm::new(&gpu.gpu, &step, &io, 1e-5, Rows::All)).unwrap();
        gpu.run(|pass| all.encode(pass, rows as u32));
        let got: Vec<f32> = gpu.read(&y_buffer);
        for row in 0..rows {
            let result = &got[row * stride..][..width];
            compare(&gpu.name, result, &expected(row), Tolerance::F32).unwrap();
        }
        let last =
            pollster::block_on(RmsNorm::new(&gpu.gpu, &step, &io, 1e-5, Rows::Last)).unwrap();
        gpu.run(|pass| last.encode(pass, rows as u32));
        let got: Vec<f32> = gpu.read(&y_buffer);
        compare(
            &gpu.name,
            &got[..width],
            &expected(rows - 1),
            Tolerance::F32,
        )
        .unwrap();
    });
}

#[test]
fn argmax_takes_the_lowest_of_equals_and_never_a_nan() {
    on_every_adapter(|gpu| {
        let vocabulary = 2 * Argmax::BLOCK as usize + 100;
        let blocks = Argmax::blocks(vocabulary as u32) as usize;
        assert_eq!(blocks, 3);
        let rows = 4;
        let mut random = Random(13);
        let mut logits = random.normals(rows * vocabulary);
        logits[5] = f32::NAN;
        logits[100] = 50.0;
        logits[7000] = 50.0; // row 0: a tie across blocks
        logits[vocabulary + 4095] = 60.0;
        logits[vocabulary + 4000] = 60.0; // row 1: a tie inside a block
        logits[2 * vocabulary..3 * vocabulary].fill(f32::NAN); // row 2: no number at all
        logits[3 * vocabulary..].fill(f32::NEG_INFINITY);
        logits[3 * vocabulary + 8000] = -1e30; // row 3: all but one forbidden
        let logits_buffer = gpu.gpu.storage_with("logits", &logits).unwrap();
        let out = gpu
            .gpu
            .storage("candidates", (rows * blocks * 8) as u64)
            .unwrap();
        let step = StepBuffer::new(&gpu.gpu, rows as u32, 0).unwrap();
        let op = pollster::block_on(Argmax::new(
            &gpu.gpu,
            vocabulary as u32,
            &step,
            BufferView::whole(&logits_buffer),
            BufferView::whole(&out),
        ))
        .unwrap();
        gpu.run(|pass| op.encode(pass, rows as u32));
        let words: Vec<u32> = gpu.read(&out);
        for row in 0..rows {
            for block in 0..blocks {
                let begin = block * Argmax::BLOCK as usize;
                let end = vocabulary.min(begin + Argmax::BLOCK as usize);
                let slice = &logits[row * vocabulary..][begin..end];
                let expected = reduce::argmax(slice).map(|i| (i + begin) as u32);
                let got = words[(row * blocks + block) * 2 + 1];
                let got = (got != u32::MAX).then_some(got);
                // A block of nothing but -inf may have no candidate.
                if slice.iter().any(|v| v.is_finite()) || got.is_some() {
                    assert_eq!(got, expected, "{} row {row} block {block}", gpu.name);
                }
            }
        }
    });
}

#[test]
fn a_matrix_larger_than_a_binding_is_split_and_gives_the_same_bits() {
    on_every_adapter(|gpu| {
        let (rows, columns, tokens) = (200usize, 96usize, 3usize);
        let mut random = Random(44);
        let (bytes, w) = weights(&mut random, WeightType::Q8_0, rows, columns);
        let x = random.normals(tokens * columns);
        let ids = [199u32, 0, 65];
        let run = |small: bool| -> (Vec<f32>, Vec<f32>, usize) {
            let mut capabilities = gpu.gpu.capabilities().clone();
            if small {
                // One tile of 32 rows takes 3 KiB.
                capabilities.limits.max_storage_buffer_binding_size = 7 << 10;
            }
            let split = TestGpu {
                name: gpu.name.clone(),
                gpu: Gpu::with_capabilities(gpu.gpu.device(), gpu.gpu.queue(), capabilities),
            };
            let matrix = upload(&split, WeightType::Q8_0, rows, columns, &bytes);
            let buffer =
                |label: &str, values: &[f32]| split.gpu.storage_with(label, values).unwrap();
            let (x, y) = (buffer("x", &x), buffer("y", &vec![CANARY; tokens * rows]));
            let embedded = buffer("embedded", &vec![CANARY; tokens * columns]);
            let ids = split.gpu.storage_with("ids", &ids).unwrap();
            let step = StepBuffer::new(&split.gpu, tokens as u32, 0).unwrap();
            let io = LinearIo {
                x: BufferView::whole(&x),
                x_stride: columns as u32,
                y: BufferView::whole(&y),
                y_stride: rows as u32,
                y_offset: 0,
            };
            let layer = Linear::new(&split.gpu, &matrix, Epilogue::Assign, &step, &io);
            let layer = pollster::block_on(layer).unwrap();
            let view = BufferView::whole(&embedded);
            let ids = BufferView::whole(&ids);
            let embed = Embed::new(&split.gpu, &matrix, &step, ids, view, columns as u32);
            let embed = pollster::block_on(embed).unwrap();
            split.run(|pass| {
                layer.encode(pass, tokens as u32);
                embed.encode(pass, tokens as u32);
            });
            (split.read(&y), split.read(&embedded), matrix.parts())
        };
        let (whole, embedded_whole, one) = run(false);
        let (split, embedded_split, several) = run(true);
        assert_eq!((one, several), (1, 4));
        assert_eq!(split, whole, "{}", gpu.name);
        assert_eq!(embedded_split, embedded_whole, "{}", gpu.name);
        let expected = twin::linear(&x, &w, None, tokens, columns, rows).unwrap();
        compare(&gpu.name, &whole, &expected, Tolerance::F32).unwrap();
    });
}

#[test]
fn bias_is_added_to_its_part_of_each_row() {
    on_every_adapter(|gpu| {
        let (rows, width, stride) = (3, 70, 75);
        let mut random = Random(6);
        let (y, bias) = (random.normals(rows * stride), random.normals(width));
        let y_buffer = gpu.gpu.storage_with("y", &y).unwrap();
        let bias_buffer = gpu.gpu.storage_with("bias", &bias).unwrap();
        // The last row is not of this step.
        let step = StepBuffer::new(&gpu.gpu, rows as u32 - 1, 0).unwrap();
        let [bias_view, y_view] = [&bias_buffer, &y_buffer].map(BufferView::whole);
        let op = Bias::new(
            &gpu.gpu,
            &step,
            bias_view,
            y_view,
            width as u32,
            stride as u32,
        );
        let op = pollster::block_on(op).unwrap();
        gpu.run(|pass| op.encode(pass, rows as u32));
        let got: Vec<f32> = gpu.read(&y_buffer);
        let expected = (0..rows * stride).map(|i| match i % stride {
            column if column < width && i / stride < rows - 1 => y[i] + bias[column],
            _ => y[i],
        });
        assert_eq!(got, expected.collect::<Vec<f32>>(), "{}", gpu.name);
    });
}

#[test]
fn head_norm_equals_its_twin_and_leaves_values_alone() {
    on_every_adapter(|gpu| {
        let (rows, query_heads, key_heads) = (3usize, 4usize, 2usize);
        for dim in [20usize, 64, 256] {
            let stride = (query_heads + 2 * key_heads) * dim;
            let mut random = Random(14);
            let x = random.normals(rows * stride);
            let weights = [random.normals(dim), random.normals(dim)];
            let x_buffer = gpu.gpu.storage_with("x", &x).unwrap();
            let buffers = weights
                .each_ref()
                .map(|w| gpu.gpu.storage_with("weight", w).unwrap());
            let step = StepBuffer::new(&gpu.gpu, rows as u32, 0).unwrap();
            let io = HeadNormIo {
                x: BufferView::whole(&x_buffer),
                stride: stride as u32,
                query_heads: query_heads as u32,
                key_heads: key_heads as u32,
                head_dim: dim as u32,
                query_weight: BufferView::whole(&buffers[0]),
                key_weight: BufferView::whole(&buffers[1]),
            };
            let op = pollster::block_on(HeadNorm::new(&gpu.gpu, &step, &io, 1e-6)).unwrap();
            gpu.run(|pass| op.encode(pass, rows as u32));
            let got: Vec<f32> = gpu.read(&x_buffer);
            for (row, got) in got.chunks_exact(stride).enumerate() {
                let (queries, rest) = x[row * stride..][..stride].split_at(query_heads * dim);
                let (keys, values) = rest.split_at(key_heads * dim);
                let mut expected = norm::rms_norm(queries, &weights[0], 1e-6).unwrap();
                expected.extend(norm::rms_norm(keys, &weights[1], 1e-6).unwrap());
                let normed = expected.len();
                let what = format!("{} row {row} dim {dim}", gpu.name);
                compare(&what, &got[..normed], &expected, Tolerance::F32).unwrap();
                assert_eq!(&got[normed..], values, "{what}");
            }
        }
    });
}
