//! Caches: append, commit, copies and attention, contiguous and paged, against their twins.

mod append;
mod attention;
mod cascade;
mod commit;
mod copies;
mod errors;
mod extremes;
mod lives;
mod memory;
mod spread;
