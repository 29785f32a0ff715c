//! One test case: a problem, the lengths of its sequences and their values, run on the GPU.

use sunfleck::{
    attention::{
        AttentionIo, AttentionProblem, Mask, Pages, TensorLayout, lengths, ragged_lengths,
    },
    gpu::BufferView,
    tree::{DraftTree, blob_words},
};

use super::recipe::left_out;
use super::tensors::{self, RED_ZONE, Sizes, extent, gather, rounded, row_start, scatter};
use crate::{adapters::TestGpu, random::Random};

/// One test case.
#[derive(Clone, Debug)]
pub struct Case {
    pub problem: AttentionProblem,
    pub sequences: Vec<(u32, u32)>, // queries, keys
    /// The draft of each sequence, for [`Mask::Tree`].
    pub trees: Vec<DraftTree>,
    /// Bytes from K's view to V's in one buffer; without, each has its own.
    pub value_offset: Option<usize>,
    /// Whether the call is recorded for the longest sequence, not for the capacity.
    pub tight: bool,
}

pub fn case(heads: u32, kv_heads: u32, dim: u32, queries: u32, keys: u32) -> Case {
    let problem = AttentionProblem::new(heads, kv_heads, dim, queries, keys);
    Case::new(problem, vec![(queries, keys)])
}

/// Dense tensors: Q `[batch, query, query_head, dim]`, K and V alike, in a ragged batch without
/// the first axis; the bias in the problem's layout.
#[derive(Clone, Debug)]
pub struct Inputs {
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub bias: Option<Vec<f32>>,
}

/// Dense output, and LSE `[batch, max_queries, query_head]`.
pub struct Outputs {
    pub output: Vec<f32>,
    pub lse: Vec<f32>,
}

impl Case {
    pub fn new(problem: AttentionProblem, sequences: Vec<(u32, u32)>) -> Self {
        Self {
            problem,
            sequences,
            trees: Vec::new(),
            value_offset: None,
            tight: false,
        }
    }

    /// Sizes of Q, K, V and O.
    fn sizes(&self) -> [Sizes; 4] {
        let p = &self.problem;
        let (batch, queries, keys) = match p.ragged {
            Some(totals) => (1, totals.queries, totals.keys),
            None => (p.batch, p.max_queries, p.max_keys),
        };
        [
            [batch, queries, p.query_heads, p.head_dim],
            [batch, keys, p.kv_heads, p.head_dim],
            [batch, keys, p.kv_heads, p.value_dim],
            [batch, queries, p.query_heads, p.value_dim],
        ]
        .map(|sizes| sizes.map(|n| n as usize))
    }

    /// For each sequence its first token in the dense Q and in the dense K, and its lengths.
    pub fn places(&self) -> Vec<[usize; 4]> {
        let p = &self.problem;
        let (mut query, mut key) = (0, 0);
        let mut places = Vec::new();
        for (queries, keys) in self
            .sequences
            .iter()
            .map(|(q, k)| (*q as usize, *k as usize))
        {
            places.push([query, key, queries, keys]);
            match p.ragged {
                Some(_) => (query, key) = (query + queries, key + keys),
                None => {
                    (query, key) = (query + p.max_queries as usize, key + p.max_keys as usize);
                }
            }
        }
        places
    }

    /// Standard normal values, as their storage holds them; what belongs to no sequence is NaN.
    pub fn inputs(&self, seed: u64) -> Inputs {
        let p = &self.problem;
        let mut random = Random(seed);
        let [q_sizes, k_sizes, v_sizes, _] = self.sizes();
        let mut draw = |layout: &TensorLayout, sizes: Sizes| {
            let values = random.normals(sizes.iter().product());
            rounded(layout.element, values, sizes[3])
        };
        let tensors = [
            (draw(&p.query, q_sizes), q_sizes, 0),
            (draw(&p.key, k_sizes), k_sizes, 1),
            (draw(&p.value, v_sizes), v_sizes, 1),
        ];
        let [q, k, v] = tensors.map(|(values, [_, _, heads, dim], keys)| {
            let mut padded = vec![f32::NAN; values.len()];
            for place in self.places() {
                let (start, len) = (place[keys] * heads * dim, place[keys + 2] * heads * dim);
                padded[start..][..len].copy_from_slice(&values[start..][..len]);
            }
            padded
        });
        // Strides of a bias may be 0: its values are drawn for the buffer and read through them.
        let bias = p.bias.map(|layout| {
            let last = (p.batch - 1) * layout.batch_stride
                + (p.query_heads - 1) * layout.head_stride
                + (p.max_queries - 1) * layout.query_stride
                + p.max_keys;
            let mut values = random.normals(last as usize);
            let hidden = values.iter_mut().step_by(7);
            hidden.for_each(|v| *v = f32::NEG_INFINITY);
            values
        });
        Inputs { q, k, v, bias }
    }

    /// Runs on the GPU, with NaN around the inputs, and checks that nothing but the rows of the
    /// sequences was written.
    pub fn run(&self, gpu: &TestGpu, inputs: &Inputs) -> Result<Outputs, String> {
        let p = &self.problem;
        let [q_sizes, k_sizes, v_sizes, o_sizes] = self.sizes();
        let view = |buffer, offset: usize, bytes: usize| {
            BufferView::range(buffer, (RED_ZONE + offset) as u64, bytes as u64)
        };
        let upload = |label: &str, memory: &[u8]| {
            gpu.gpu
                .storage_with(label, memory)
                .map_err(|e| e.to_string())
        };
        // Keys and values in the pool's pages, where there are pages.
        let table = self.page_table();
        let in_pages = |values: &[f32], sizes: Sizes| match p.pages {
            Some(pages) => self.paged(pages, &table, values, sizes),
            None => (values.to_vec(), sizes),
        };
        let (paged_k, k_sizes) = in_pages(&inputs.k, k_sizes);
        let (paged_v, v_sizes) = in_pages(&inputs.v, v_sizes);
        let placed = |layout: &TensorLayout, values: &[f32], sizes: Sizes| {
            let mut memory = tensors::input_memory(extent(layout, sizes));
            scatter(&mut memory[RED_ZONE..], layout, values, sizes);
            memory
        };
        let query = upload("q", &placed(&p.query, &inputs.q, q_sizes))?;
        let (k_bytes, v_bytes) = (extent(&p.key, k_sizes), extent(&p.value, v_sizes));
        let (key, value) = match self.value_offset {
            None => (
                upload("k", &placed(&p.key, &paged_k, k_sizes))?,
                upload("v", &placed(&p.value, &paged_v, v_sizes))?,
            ),
            Some(offset) => {
                let mut memory = tensors::input_memory(k_bytes.max(offset + v_bytes));
                scatter(&mut memory[RED_ZONE..], &p.key, &paged_k, k_sizes);
                scatter(
                    &mut memory[RED_ZONE + offset..],
                    &p.value,
                    &paged_v,
                    v_sizes,
                );
                let both = upload("k and v", &memory)?;
                (both.clone(), both)
            }
        };
        let o_bytes = extent(&p.output, o_sizes);
        let output = upload("o", &tensors::output_memory(o_bytes))?;
        let lse_bytes = (p.batch * p.max_queries * p.query_heads * 4) as usize;
        let lse = upload("lse", &tensors::output_memory(lse_bytes))?;
        let mut words = match p.ragged {
            Some(_) => ragged_lengths(&self.sequences),
            None => lengths(&self.sequences),
        };
        if p.pages.is_some() {
            // Lengths count what is left out. Without a key of the call, some of that may be missing too.
            for ([_, past, _, _], (_, keys)) in words.iter_mut().zip(&self.sequences) {
                let left_out = left_out(p);
                *past = past.wrapping_add(if *keys == 0 { left_out / 2 } else { left_out });
            }
        }
        let gpu_lengths = upload("lengths", bytemuck::cast_slice(&words))?;
        let tree = match p.mask {
            Mask::Tree { max_nodes } | Mask::TreeEnd { max_nodes } => {
                Some(upload("tree", &self.blobs(max_nodes as usize))?)
            }
            _ => None,
        };
        let table_buffer = match p.pages {
            Some(_) => Some(upload("pages", bytemuck::cast_slice(&table))?),
            None => None,
        };
        let bias = match &inputs.bias {
            Some(values) => Some(upload("bias", bytemuck::cast_slice(values))?),
            None => None,
        };
        let plan = gpu.gpu.plan_attention(p).map_err(|e| e.to_string())?;
        let prepared = pollster::block_on(plan.prepare()).map_err(|e| e.to_string())?;
        let workspace = prepared.workspace().map_err(|e| e.to_string())?;
        let io = AttentionIo {
            query: view(&query, 0, extent(&p.query, q_sizes)),
            key: view(&key, 0, k_bytes),
            value: view(&value, self.value_offset.unwrap_or(0), v_bytes),
            output: view(&output, 0, o_bytes),
            lse: p.lse.then(|| view(&lse, 0, lse_bytes)),
            lengths: BufferView::whole(&gpu_lengths),
            tree: tree.as_ref().map(BufferView::whole),
            pages: table_buffer.as_ref().map(BufferView::whole),
            bias: bias.as_ref().map(BufferView::whole),
        };
        let attention = prepared.bind(&workspace, &io).map_err(|e| e.to_string())?;
        let longest = |of: fn(&(u32, u32)) -> u32| self.sequences.iter().map(of).max().unwrap_or(0);
        let (queries, keys) = match self.tight {
            true => (longest(|s| s.0), longest(|s| s.1)),
            false => (p.max_queries, p.max_keys),
        };
        gpu.run(|pass| attention.encode(pass, queries, keys));

        let memory: Vec<u8> = gpu.read(&output);
        let row_bytes = p.output.element.row_bytes(p.value_dim) as usize;
        let written = self.written_rows(false).map(|row| {
            let start = row_start(&p.output, o_sizes, row);
            start..start + row_bytes
        });
        if let Some(byte) = tensors::dead_canary(&memory, written) {
            return Err(format!(
                "byte {byte} of the output is foreign and was written"
            ));
        }
        let values = gather(&memory[RED_ZONE..], &p.output, o_sizes);
        let memory: Vec<u8> = gpu.read(&lse);
        let written = self.written_rows(true).map(|row| row * 4..row * 4 + 4);
        if let Some(byte) = tensors::dead_canary(&memory, written.filter(|_| p.lse)) {
            return Err(format!("byte {byte} of the LSE is foreign and was written"));
        }
        Ok(Outputs {
            output: values,
            lse: bytemuck::pod_collect_to_vec(&memory[RED_ZONE..][..lse_bytes]),
        })
    }

    /// The page table: pages in an order of no sequence's own, and nonsense where there is no key.
    fn page_table(&self) -> Vec<u32> {
        let Some(pages) = self.problem.pages else {
            return Vec::new();
        };
        let mut free: Vec<u32> = (0..pages.pool_pages).collect();
        let mut random = Random(u64::from(pages.pool_pages));
        let mut table = vec![
            u32::MAX;
            ((self.problem.batch + pages.first_sequence) * pages.table_stride)
                as usize
        ];
        for (sequence, (_, keys)) in self.sequences.iter().enumerate() {
            for page in 0..keys.div_ceil(pages.page_tokens) {
                let row = sequence as u32 + pages.first_sequence;
                let at = row * pages.table_stride + pages.first_page + page;
                let taken = random.below(free.len() as u32) as usize;
                table[at as usize] = free.swap_remove(taken);
            }
        }
        table
    }

    /// Dense keys or values moved into the pages of a pool, `[page, slot, kv_head, dim]`, NaN where
    /// there are none.
    fn paged(
        &self,
        pages: Pages,
        table: &[u32],
        values: &[f32],
        [_, _, heads, dim]: Sizes,
    ) -> (Vec<f32>, Sizes) {
        let slots = pages.page_tokens as usize;
        let sizes = [pages.pool_pages as usize, slots, heads, dim];
        let mut pool = vec![f32::NAN; sizes.iter().product()];
        let token = heads * dim;
        for (sequence, [_, first, _, keys]) in self.places().into_iter().enumerate() {
            let row = sequence + pages.first_sequence as usize;
            let entries = &table[row * pages.table_stride as usize..][pages.first_page as usize..];
            for key in 0..keys {
                let slot = entries[key / slots] as usize * slots + key % slots;
                let from = &values[(first + key) * token..][..token];
                pool[slot * token..][..token].copy_from_slice(from);
            }
        }
        (pool, sizes)
    }

    /// Rows that belong to a sequence, of the dense output or of the LSE, which is never ragged.
    fn written_rows(&self, lse: bool) -> impl Iterator<Item = usize> {
        let heads = self.problem.query_heads as usize;
        let max_queries = self.problem.max_queries as usize;
        let places = self.places().into_iter().enumerate();
        places.flat_map(move |(sequence, [query, _, queries, _])| {
            let first = if lse { sequence * max_queries } else { query };
            first * heads..(first + queries) * heads
        })
    }

    fn blobs(&self, max_nodes: usize) -> Vec<u8> {
        let mut words = Vec::new();
        for tree in &self.trees {
            words.extend(tree.blob(max_nodes).unwrap());
        }
        words.resize(
            words
                .len()
                .max(self.sequences.len() * blob_words(max_nodes)),
            0,
        );
        bytemuck::cast_slice(&words).to_vec()
    }
}

/// Output and LSE on the GPU, `[batch, query, head, dim]` and `[batch, query, head]`; in a ragged
/// batch the tensors are `[token, head, dim]`.
pub fn run(
    gpu: &TestGpu,
    problem: &AttentionProblem,
    sequences: &[(u32, u32)],
    [q, k, v]: [&[f32]; 3],
    tree: Option<&DraftTree>,
) -> (Vec<f32>, Vec<f32>) {
    let mut case = Case::new(problem.clone(), sequences.to_vec());
    case.trees.extend(tree.cloned());
    let inputs = Inputs {
        q: q.to_vec(),
        k: k.to_vec(),
        v: v.to_vec(),
        bias: None,
    };
    match case.run(gpu, &inputs) {
        Ok(outputs) => (outputs.output, outputs.lse),
        Err(error) => panic!("{}: {error}\n{case:?}", gpu.name),
    }
}
