//! stub
pub fn ancestor_words(n: u32) -> usize { n.div_ceil(32) as usize }
pub fn ancestor_offset(n: u32) -> usize { 8 * n as usize }
pub fn blob_words(n: u32) -> usize { ancestor_offset(n) + n as usize * ancestor_words(n) }
