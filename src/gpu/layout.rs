//! Structs shared with WGSL.

/// Name, size and fields of a Rust struct that a kernel's WGSL declares too. A test compares them
/// with what naga reads from the WGSL, so the two can't drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StructLayout {
    /// Name, the same in both languages.
    pub name: &'static str,
    /// Bytes.
    pub size: usize,
    /// Field names and offsets in bytes.
    pub fields: &'static [(&'static str, usize)],
}

/// Declares a `repr(C)` parameter struct with its [`StructLayout`] as `LAYOUT`.
macro_rules! shared_struct {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field_visibility:vis $field:ident: $type:ty),* $(,)?
    }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        $visibility struct $name {
            $($(#[$field_meta])* $field_visibility $field: $type),*
        }

        impl $name {
            pub(crate) const LAYOUT: $crate::gpu::StructLayout = $crate::gpu::StructLayout {
                name: stringify!($name),
                size: std::mem::size_of::<Self>(),
                fields: &[$((stringify!($field), std::mem::offset_of!(Self, $field))),*],
            };
        }
    };
}
pub(crate) use shared_struct;
