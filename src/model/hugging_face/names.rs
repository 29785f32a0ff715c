//! Names of tensors: from those of `transformers` to those of GGUF.

/// The name in GGUF of the tensor `name`; `None` for one that is not needed. A name that is not known stays, so that the
/// check of all tensors refuses it by that name.
pub(super) fn gguf_name(name: &str, tied: bool) -> Option<String> {
    let unknown = || Some(name.to_owned());
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".to_owned()),
        "model.norm.weight" => return Some("output_norm.weight".to_owned()),
        // A tied head may be stored all the same; it is the embedding.
        "lm_head.weight" => return (!tied).then(|| "output.weight".to_owned()),
        _ => {}
    }
    let Some((layer, rest)) = (name.strip_prefix("model.layers.")).and_then(|n| n.split_once('.'))
    else {
        return unknown();
    };
    // Old files of Llama store what the base gives.
    if rest == "self_attn.rotary_emb.inv_freq" {
        return None;
    }
    let Some((part, kind @ ("weight" | "bias"))) = rest.rsplit_once('.') else {
        return unknown();
    };
    let part = match part {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return unknown(),
    };
    Some(format!("blk.{layer}.{part}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::gguf_name;

    #[test]
    fn names_are_those_of_gguf_and_unknown_ones_stay() {
        let name = |name| gguf_name(name, false);
        let is = |from, to: &str| assert_eq!(name(from).as_deref(), Some(to));
        is("model.embed_tokens.weight", "token_embd.weight");
        is("lm_head.weight", "output.weight");
        is(
            "model.layers.12.self_attn.q_proj.bias",
            "blk.12.attn_q.bias",
        );
        is(
            "model.layers.0.mlp.down_proj.weight",
            "blk.0.ffn_down.weight",
        );
        let experts = "model.layers.0.mlp.experts.3.up_proj.weight";
        is(experts, experts);
        is("score.weight", "score.weight");
        assert_eq!(gguf_name("lm_head.weight", true), None);
        assert_eq!(name("model.layers.1.self_attn.rotary_emb.inv_freq"), None);
    }
}
