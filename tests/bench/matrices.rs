//! The loop of matrix products, which no software adapter can run.

use naga::valid::{Capabilities, ValidationFlags, Validator};

use crate::{cases::cases, kernel_names, matrix_products::*, roofline::*};

fn validate(wgsl: &str, capabilities: Capabilities) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|error| error.emit_to_string(wgsl))?;
    Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map(|_| ())
        .map_err(|error| error.emit_to_string(wgsl))
}

#[test]
fn every_loop_of_products_is_valid_wgsl() {
    let capabilities = Capabilities::SHADER_FLOAT16 | Capabilities::COOPERATIVE_MATRIX;
    for blocking in BLOCKINGS {
        let wgsl = blocking.wgsl();
        validate(&wgsl, capabilities).unwrap_or_else(|error| panic!("{blocking:?}: {error}"));
        assert!(validate(&wgsl, Capabilities::SHADER_FLOAT16).is_err());
    }
}

#[test]
fn every_product_is_counted_and_has_a_sum_of_its_own() {
    let blocking = Blocking { left: 2, right: 4 };
    let wgsl = blocking.wgsl();
    let products = wgsl.matches("coopMultiplyAdd").count() as f64;
    assert_eq!(wgsl.matches("coopStoreT").count(), 8);
    let subgroups = f64::from(GROUPS) * 8.0;
    assert_eq!(
        blocking.operations(),
        subgroups * f64::from(STEPS) * products * 2.0 * 4096.0
    );
    for (element, name) in [(2 + 4, "factors"), (2 * 4, "result")] {
        let last = (element - 1) * 64;
        assert!(wgsl.contains(&format!("&{name}[{last}u]")), "{name}");
    }
}

#[test]
fn kernels_on_matrices_are_bound_by_their_products() {
    let rates = Rates {
        fma: 60e12,
        read: 4.6e12,
        matrix: Some(600e12),
    };
    let case = &cases(false)[0];
    let on = rates.limit(case.flops(), case.bytes(), true);
    let off = rates.limit(case.flops(), case.bytes(), false);
    assert_eq!((on.name, off.name), ("matrix", "FMA"));
    assert!((off.seconds / on.seconds - 10.0).abs() < 1e-9);
    // Where no peak of products was measured, the other one stands.
    let unknown = Rates {
        matrix: None,
        ..rates
    };
    assert_eq!(unknown.limit(case.flops(), case.bytes(), true), off);
}

#[test]
fn kernels_on_matrices_are_known_by_their_names() {
    assert!(kernel_names::on_matrices(
        "attention/prefill_cooperative/f16-f16-f16/d128/none/q128k32/f16"
    ));
    assert!(kernel_names::on_matrices(
        "attention/decode_cooperative/f16-f16-f16/d128/none/r16k64"
    ));
    assert!(!kernel_names::on_matrices(
        "attention/prefill/f16-f16-f16/d128/none/q64k64/f16"
    ));
}
