//! Attention and verification on tensors of burn, on every test adapter.

use std::sync::OnceLock;

use burn::{
    backend::Wgpu,
    tensor::{
        Device, Tensor, TensorData,
        module::attention as attention_of_burn,
        ops::AttentionModuleOptions,
        wgpu::{MemoryConfiguration, WgpuSetup},
    },
};
use pollster::block_on;
use sunfleck::{
    gpu::Gpu,
    reference::attention::{self as reference, AttentionOptions, AttentionShape, Mask},
    tree::DraftTree,
    wgpu,
};
use sunfleck_burn::{TensorBuffer, attention, verify};

/// An adapter whose one device burn and sunfleck share.
struct Shared {
    name: String,
    gpu: Gpu,
    burn: Device,
}

fn share(
    adapter: &wgpu::Adapter,
    instance: &wgpu::Instance,
    memory: MemoryConfiguration,
) -> Shared {
    // burn takes it for granted that a device has all that its adapter offers.
    let experimental = wgpu::Features::all_experimental_mask();
    let (device, queue) = block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: adapter.features()
            - experimental
            - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS,
        required_limits: adapter.limits(),
        ..Default::default()
    }))
    .unwrap();
    let info = adapter.get_info();
    let setup = WgpuSetup {
        instance: instance.clone(),
        adapter: adapter.clone(),
        device: device.clone(),
        queue: queue.clone(),
        backend: info.backend,
    };
    let options = Device::wgpu_options().memory_config(memory.clone());
    Shared {
        name: format!("{} ({memory:?})", info.name),
        gpu: Gpu::new(&device, &queue),
        burn: options.setup(setup).init().unwrap(),
    }
}

/// Each adapter with tensors that share buffers, and with a buffer for each.
fn on_every_adapter(test: impl Fn(&Shared)) {
    static ALL: OnceLock<Vec<Shared>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let wanted: Vec<String> = std::env::var("SUNFLECK_TEST_ADAPTERS")
            .map(|names| names.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
        let named = |adapter: &wgpu::Adapter, want: &String| adapter.get_info().name.contains(want);
        for want in &wanted {
            assert!(adapters.iter().any(|a| named(a, want)), "no adapter {want}");
        }
        let chosen = adapters
            .iter()
            .filter(|a| wanted.is_empty() || wanted.iter().any(|want| named(a, want)));
        let memories = [
            MemoryConfiguration::Adaptive,
            MemoryConfiguration::ExclusivePages,
        ];
        chosen
            .flat_map(|adapter| {
                memories
                    .clone()
                    .map(|memory| share(adapter, &instance, memory))
            })
            .collect()
    });
    assert!(!all.is_empty(), "no GPU adapter");
    all.iter().for_each(test);
}

const HEADS: [usize; 2] = [4, 2]; // query heads, KV heads
const DIM: usize = 32;

fn values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor.to_data().try_to_vec().unwrap()
}

/// Numbers of about the standard normal law, the same in every run (sums of twelve from SplitMix64).
fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut state = seed << 32;
    let mut unit = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    let values =
        (0..shape.iter().product::<usize>()).map(|_| (0..12).map(|_| unit()).sum::<f32>() - 6.0);
    Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), device)
}

/// Query `[40, 4, 32]`, key and value `[70, 2, 32]`.
fn inputs(device: &Device) -> [Tensor<3>; 3] {
    [
        random([40, HEADS[0], DIM], 1, device),
        random([70, HEADS[1], DIM], 2, device),
        random([70, HEADS[1], DIM], 3, device),
    ]
}

/// The same in f64.
fn twin([query, key, value]: [&Tensor<3>; 3]) -> Vec<f64> {
    let [queries, keys] = [query.dims()[0], key.dims()[0]];
    let shape = AttentionShape {
        batch: 1,
        query_heads: HEADS[0],
        kv_heads: HEADS[1],
        queries,
        keys,
        head_dim: DIM,
        value_dim: DIM,
    };
    let options = AttentionOptions {
        mask: Mask::Causal,
        ..AttentionOptions::default()
    };
    let [q, k, v] = [query, key, value].map(values);
    reference::attention(&shape, &q, &k, &v, &options)
        .unwrap()
        .output
}

/// burn's own attention, on `[batch, head, token, dim]` with as many KV heads as query heads.
fn by_burn([query, key, value]: [&Tensor<3>; 3]) -> Tensor<3> {
    let spread = |tensor: &Tensor<3>| {
        let [tokens, heads, dim] = tensor.dims();
        let group = HEADS[0] / heads;
        let heads_first: Tensor<4> = tensor.clone().swap_dims(0, 1).unsqueeze_dim(1);
        heads_first
            .repeat_dim(1, group)
            .reshape([1, heads * group, tokens, dim])
    };
    // burn aligns causal queries with the first keys, we with the last: the mask says which.
    let (queries, keys) = (query.dims()[0], key.dims()[0]);
    let hidden: Vec<bool> = (0..HEADS[0] * queries * keys)
        .map(|at| at % keys > at / keys % queries + keys - queries)
        .collect();
    let hidden = TensorData::new(hidden, [1, HEADS[0], queries, keys]);
    let attended = attention_of_burn(
        spread(query),
        spread(key),
        spread(value),
        Some(Tensor::from_data(hidden, &query.device())),
        None,
        AttentionModuleOptions::default(),
    );
    attended.reshape([HEADS[0], queries, DIM]).swap_dims(0, 1)
}

/// The largest distance.
fn distance(values: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(values.len(), expected.len());
    let distances = values.iter().zip(expected);
    distances
        .map(|(value, expected)| (f64::from(*value) - expected).abs())
        .fold(0.0, f64::max)
}

#[test]
fn attention_is_right_on_tensors_that_share_a_buffer_and_on_those_that_do_not() {
    on_every_adapter(|shared| {
        let [q, k, v] = inputs(&shared.burn);
        let [in_q, in_k] = [&q, &k].map(|tensor| TensorBuffer::of(tensor).unwrap());
        let one_buffer = in_q.buffer() == in_k.buffer();
        assert_eq!(
            one_buffer,
            shared.name.contains("Adaptive"),
            "{}",
            shared.name
        );

        let attended = block_on(attention(&shared.gpu, &q, &k, &v)).unwrap();
        let expected = twin([&q, &k, &v]);
        let ours = distance(&values(&attended), &expected);
        let theirs = distance(&values(&by_burn([&q, &k, &v])), &expected);
        println!("{}: {ours:e}, burn {theirs:e}", shared.name);
        assert!(
            theirs < 1e-5,
            "{}: the comparison is wrong: {theirs:e}",
            shared.name
        );
        assert!(
            ours <= 2.0 * theirs,
            "{}: {ours:e}, burn {theirs:e}",
            shared.name
        );

        // The result is a tensor like others: burn computes with it, after us in the shared queue.
        let doubled = values(&(attended.clone() * 2.0));
        let again: Vec<f32> = values(&attended).iter().map(|value| value * 2.0).collect();
        assert_eq!(doubled, again, "{}", shared.name);
    });
}

#[test]
fn permuted_views_are_read_where_they_are() {
    on_every_adapter(|shared| {
        let [q, k, v] = inputs(&shared.burn);
        let dense = block_on(attention(&shared.gpu, &q, &k, &v)).unwrap();
        // [head, token, dim] in memory, of which the view is [token, head, dim].
        let heads_first = |tensor: &Tensor<3>| {
            let moved = tensor.clone().swap_dims(0, 1);
            let data = TensorData::new(values(&moved), moved.dims());
            Tensor::<3>::from_data(data, &shared.burn).swap_dims(0, 1)
        };
        let viewed = block_on(attention(
            &shared.gpu,
            &q,
            &heads_first(&k),
            &heads_first(&v),
        ));
        assert_eq!(values(&dense), values(&viewed.unwrap()), "{}", shared.name);
        // Elements of a head must follow each other.
        let apart = k.clone().swap_dims(1, 2);
        let refused = block_on(attention(&shared.gpu, &q, &apart, &v)).unwrap_err();
        assert!(refused.to_string().contains("does not fit"), "{refused}");
    });
}

#[test]
fn tensors_between_the_places_of_bindings_are_copied() {
    on_every_adapter(|shared| {
        let [q, k, v] = inputs(&shared.burn);
        let dense = block_on(attention(&shared.gpu, &q, &k, &v)).unwrap();
        // The same keys one word further on, as a part of a longer tensor.
        let mut longer = vec![7.0];
        longer.extend(values(&k));
        let count = longer.len();
        let longer = Tensor::<1>::from_data(TensorData::new(longer, [count]), &shared.burn);
        let mut moved = k.clone().try_into_primitive::<Wgpu>().unwrap();
        let from = longer.try_into_primitive::<Wgpu>().unwrap();
        moved.handle = from.handle.offset_start(4);
        let moved = Tensor::<3>::from_primitive::<Wgpu>(moved);
        assert_ne!(TensorBuffer::of(&moved).unwrap().view().offset % 256, 0);
        let copied = block_on(attention(&shared.gpu, &q, &moved, &v)).unwrap();
        assert_eq!(values(&dense), values(&copied), "{}", shared.name);
    });
}

#[test]
fn drafts_are_verified_on_logits_that_burn_computed() {
    on_every_adapter(|shared| {
        let device = &shared.burn;
        let vocabulary = 500;
        let hidden = random([6, DIM], 4, device);
        let head = random([DIM, vocabulary], 5, device);
        let logits = hidden.matmul(head);
        let chosen: Vec<u32> = values(&logits)
            .chunks(vocabulary)
            .map(|row| {
                (0..vocabulary)
                    .max_by(|&a, &b| row[a].total_cmp(&row[b]))
                    .unwrap() as u32
            })
            .collect();
        // Three drafts as the model has them, one that it has not, and one behind it.
        let wrong = (chosen[3] + 1) % vocabulary as u32;
        let drafts = [chosen[0], chosen[1], chosen[2], wrong, 0];
        let tree = DraftTree::chain(5, &drafts).unwrap();
        let verdict = block_on(verify(&shared.gpu, &logits, &tree)).unwrap();
        assert_eq!(verdict.path, [0, 1, 2, 3], "{}", shared.name);
        assert_eq!(verdict.tokens, chosen[..4], "{}", shared.name);
        let short = logits.slice([0..5, 0..vocabulary]);
        let refused = block_on(verify(&shared.gpu, &short, &tree)).unwrap_err();
        assert!(refused.to_string().contains("fewer rows"), "{refused}");
    });
}
