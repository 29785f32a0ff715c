//! Which kernels each of a few dozen problems gets on each capability profile, and why others were
//! refused: a checked-in record, so that a change of choice is seen in review. Needs no GPU.
//!
//! `SUNFLECK_WRITE_PLANS=1 cargo test --test gpu plans` writes the record anew.

use std::fmt::Write as _;

use sunfleck::{
    attention::{AttentionProblem, BiasLayout, Element, Mask, Pages, RaggedTotals},
    gpu::Gpu,
    variants, wgpu,
};

/// Problems with the names under which the record has them.
fn problems() -> Vec<(String, AttentionProblem)> {
    let mut problems = Vec::new();
    for (name, heads, kv_heads, dim) in [
        ("mha", 8, 8, 64),
        ("gqa", 32, 8, 128),
        ("mqa", 12, 1, 80),
        ("smollm", 9, 3, 64),
        ("wide", 4, 4, 256),
    ] {
        for (size, queries, keys) in [
            ("decode", 1, 4096),
            ("verify", 16, 4096),
            ("prompt", 512, 4096),
        ] {
            let problem = AttentionProblem::new(heads, kv_heads, dim, queries, keys);
            problems.push((format!("{name} {size}"), problem));
        }
    }
    let base = || AttentionProblem::new(8, 2, 64, 256, 4096);
    let mut push = |name: &str, change: &dyn Fn(&mut AttentionProblem)| {
        let mut problem = base();
        change(&mut problem);
        problems.push((name.to_owned(), problem));
    };
    push("invariant", &|p| p.invariant = true);
    push("f16 cache", &|p| {
        p.key.element = Element::F16;
        p.value.element = Element::F16;
    });
    push("f16", &|p| {
        for tensor in [&mut p.query, &mut p.key, &mut p.value, &mut p.output] {
            tensor.element = Element::F16;
        }
    });
    push("bf16", &|p| {
        for tensor in [&mut p.query, &mut p.key, &mut p.value, &mut p.output] {
            tensor.element = Element::Bf16;
        }
    });
    push("tree", &|p| p.mask = Mask::Tree { max_nodes: 256 });
    push("tree, bias and LSE", &|p| {
        p.mask = Mask::Tree { max_nodes: 256 };
        p.bias = Some(BiasLayout::default());
        p.lse = true;
    });
    push("window and sinks", &|p| {
        p.window = Some(512);
        p.sinks = Some(vec![0.0; 8]);
    });
    push("softcap and ALiBi", &|p| {
        p.softcap = Some(50.0);
        p.alibi_slopes = Some(vec![0.5; 8]);
    });
    push("prefix", &|p| p.mask = Mask::Prefix { keys: 100 });
    push("value head apart", &|p| p.value_dim = 32);
    push("ragged", &|p| {
        p.batch = 3;
        p.ragged = Some(RaggedTotals {
            queries: 600,
            keys: 9000,
        });
    });
    let pages = |page_tokens| {
        Some(Pages {
            page_tokens,
            pool_pages: 1000,
            table_stride: 256,
            first_page: 0,
            first_sequence: 0,
        })
    };
    for page_tokens in [16, 32, 64] {
        push(&format!("pages of {page_tokens}"), &|p| {
            p.pages = pages(page_tokens);
        });
    }
    push("pages, tree and LSE", &|p| {
        p.pages = pages(64);
        p.mask = Mask::Tree { max_nodes: 256 };
        p.lse = true;
    });
    push("int8 keys, int4 values, pages", &|p| {
        p.pages = pages(64);
        p.key.element = Element::Q8;
        p.value.element = Element::Q4;
    });
    push("table too small", &|p| {
        p.pages = pages(16).map(|p| Pages {
            table_stride: 255,
            ..p
        })
    });
    push("odd pages", &|p| p.pages = pages(48));
    push("odd head", &|p| p.head_dim = 66);
    push("huge head", &|p| p.head_dim = 512);
    push("uneven groups", &|p| p.kv_heads = 3);
    problems
}

fn record() -> String {
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let mut text = String::new();
    for (profile, capabilities) in variants::profiles() {
        let gpu = Gpu::with_capabilities(&device, &queue, capabilities);
        for (name, problem) in problems() {
            let _ = writeln!(text, "## {profile}: {name}");
            match gpu.plan_attention(&problem) {
                Ok(plan) => text.push_str(&plan.explain()),
                Err(error) => {
                    let _ = writeln!(text, "refused: {error}");
                }
            }
            text.push('\n');
        }
    }
    text
}

#[test]
fn plans_are_those_of_the_record() {
    let now = record();
    if std::env::var_os("SUNFLECK_WRITE_PLANS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gpu/plans.txt");
        return std::fs::write(path, &now).unwrap();
    }
    // Compiled in: a packed test program runs where there is no clone.
    let recorded = include_str!("plans.txt");
    let change = now
        .lines()
        .zip(recorded.lines())
        .find(|(now, then)| now != then);
    assert!(
        now == recorded,
        "the plans differ from tests/gpu/plans.txt, first {change:?}; if that is meant, write it \
         anew with SUNFLECK_WRITE_PLANS=1"
    );
}
