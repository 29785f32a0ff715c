// Scratch of kernels that count in it.

// Of the part that is bound: statistics [row, kind, block] of eight words: maximum, its token, sum; of the logits
// as they are maximum and sum; what is left and the weight of the block. Then marks [row][occurred, allowed] of one
// bit a token; and of cut-offs sums [row, kind, block, bin], searches [row, kind] and candidates [row, kind].
@group(0) @binding(4) var<storage, read_write> scratch: array<atomic<u32>>;

fn scratch_word(at: u32) -> u32 {
    return atomicLoad(&scratch[at]);
}

fn set_scratch(at: u32, word: u32) {
    atomicStore(&scratch[at], word);
}
