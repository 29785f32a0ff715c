//! Metadata values and their typed getters.

use std::fmt;
use std::io::{Read, Seek};

use super::cursor::Cursor;
use super::{Gguf, GgufError};

/// Most items of one array: thirty times the largest published vocabulary.
const MAX_ARRAY_ITEMS: u64 = 1 << 24;
/// Deepest nesting of arrays; the known keys use one level, the format sets no limit.
const MAX_ARRAY_DEPTH: u32 = 4;

/// The type of a metadata value, by its number in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)] // the names are the documentation
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    /// The type of that number, if the format defines one.
    pub fn from_number(number: u32) -> Option<Self> {
        use ValueType::*;
        [
            U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == number)
    }

    /// Fewest bytes one item takes in an array. // bytes
    fn min_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names are the documentation
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// A metadata array; its items have one type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names are the documentation
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
}

impl Array {
    /// Number of items.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(items) => items.len(),
            Self::I8(items) => items.len(),
            Self::U16(items) => items.len(),
            Self::I16(items) => items.len(),
            Self::U32(items) => items.len(),
            Self::I32(items) => items.len(),
            Self::U64(items) => items.len(),
            Self::I64(items) => items.len(),
            Self::F32(items) => items.len(),
            Self::F64(items) => items.len(),
            Self::Bool(items) => items.len(),
            Self::String(items) => items.len(),
            Self::Array(items) => items.len(),
        }
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Type of the items.
    pub fn item_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F32(_) => ValueType::F32,
            Self::F64(_) => ValueType::F64,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
        }
    }

    /// The items as integers, if they are integers of any width.
    fn integers(&self) -> Option<Vec<i64>> {
        Some(match self {
            Self::U8(items) => items.iter().map(|&item| item.into()).collect(),
            Self::I8(items) => items.iter().map(|&item| item.into()).collect(),
            Self::U16(items) => items.iter().map(|&item| item.into()).collect(),
            Self::I16(items) => items.iter().map(|&item| item.into()).collect(),
            Self::U32(items) => items.iter().map(|&item| item.into()).collect(),
            Self::I32(items) => items.iter().map(|&item| item.into()).collect(),
            Self::I64(items) => items.clone(),
            Self::U64(items) => items
                .iter()
                .map(|&item| i64::try_from(item).ok())
                .collect::<Option<_>>()?,
            _ => return None,
        })
    }
}

impl Value {
    /// What the value is, in words: the type, and for a scalar the value.
    pub fn describe(&self) -> String {
        match self {
            Self::U8(value) => format!("U8 {value}"),
            Self::I8(value) => format!("I8 {value}"),
            Self::U16(value) => format!("U16 {value}"),
            Self::I16(value) => format!("I16 {value}"),
            Self::U32(value) => format!("U32 {value}"),
            Self::I32(value) => format!("I32 {value}"),
            Self::U64(value) => format!("U64 {value}"),
            Self::I64(value) => format!("I64 {value}"),
            Self::F32(value) => format!("F32 {value}"),
            Self::F64(value) => format!("F64 {value}"),
            Self::Bool(value) => format!("Bool {value}"),
            Self::String(value) => format!("a string of {} bytes", value.len()),
            Self::Array(array) => format!("an array of {} {}", array.len(), array.item_type()),
        }
    }

    /// The value as an integer, if it is one of any width.
    pub(crate) fn as_integer(&self) -> Option<i128> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::I8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::U64(value) => Some(value.into()),
            Self::I64(value) => Some(value.into()),
            _ => None,
        }
    }

    /// An integer of any width that fits in 64 unsigned bits; `key` names it in the error.
    pub fn as_u64(&self, key: &str) -> Result<u64, GgufError> {
        self.as_integer()
            .and_then(|value| u64::try_from(value).ok())
            .ok_or_else(|| {
                GgufError::wrong_type(key, "an unsigned 64-bit integer", self.describe())
            })
    }

    /// An integer of any width that fits in 32 unsigned bits; `key` names it in the error.
    pub fn as_u32(&self, key: &str) -> Result<u32, GgufError> {
        self.as_integer()
            .and_then(|value| u32::try_from(value).ok())
            .ok_or_else(|| {
                GgufError::wrong_type(key, "an unsigned 32-bit integer", self.describe())
            })
    }

    /// A float of either width; `key` names it in the error.
    pub fn as_f32(&self, key: &str) -> Result<f32, GgufError> {
        match *self {
            Self::F32(value) => Ok(value),
            Self::F64(value) => Ok(value as f32),
            _ => Err(GgufError::wrong_type(key, "a float", self.describe())),
        }
    }

    /// A bool; `key` names it in the error.
    pub fn as_bool(&self, key: &str) -> Result<bool, GgufError> {
        match *self {
            Self::Bool(value) => Ok(value),
            _ => Err(GgufError::wrong_type(key, "a bool", self.describe())),
        }
    }

    /// A string; `key` names it in the error.
    pub fn as_str(&self, key: &str) -> Result<&str, GgufError> {
        match self {
            Self::String(value) => Ok(value),
            _ => Err(GgufError::wrong_type(key, "a string", self.describe())),
        }
    }

    /// An array of strings; `key` names it in the error.
    pub fn as_strings(&self, key: &str) -> Result<&[String], GgufError> {
        match self {
            Self::Array(Array::String(items)) => Ok(items),
            _ => Err(GgufError::wrong_type(
                key,
                "an array of strings",
                self.describe(),
            )),
        }
    }

    /// An array of F32; `key` names it in the error.
    pub fn as_f32s(&self, key: &str) -> Result<&[f32], GgufError> {
        match self {
            Self::Array(Array::F32(items)) => Ok(items),
            _ => Err(GgufError::wrong_type(
                key,
                "an array of F32",
                self.describe(),
            )),
        }
    }

    /// An array of integers of any width; `key` names it in the error.
    pub fn as_integers(&self, key: &str) -> Result<Vec<i64>, GgufError> {
        match self {
            Self::Array(array) => array.integers(),
            _ => None,
        }
        .ok_or_else(|| GgufError::wrong_type(key, "an array of integers", self.describe()))
    }
}

/// Typed getters: an error names the key, what was expected and what was found.
impl Gguf {
    fn require(&self, key: &str, expected: &'static str) -> Result<&Value, GgufError> {
        self.get(key).ok_or_else(|| GgufError::KeyMissing {
            key: key.to_owned(),
            expected,
        })
    }

    /// The integer `key`, of any width that fits in 32 unsigned bits.
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        self.require(key, "an unsigned 32-bit integer")?.as_u32(key)
    }

    /// The float `key`, of either width.
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        self.require(key, "a float")?.as_f32(key)
    }

    /// The bool `key`.
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        self.require(key, "a bool")?.as_bool(key)
    }

    /// The string `key`.
    pub fn str(&self, key: &str) -> Result<&str, GgufError> {
        self.require(key, "a string")?.as_str(key)
    }

    /// The array of strings `key`.
    pub fn strings(&self, key: &str) -> Result<&[String], GgufError> {
        self.require(key, "an array of strings")?.as_strings(key)
    }
}

pub(super) fn read_value<R: Read + Seek>(
    cursor: &mut Cursor<'_, R>,
    key: &str,
) -> Result<Value, GgufError> {
    let what = format!("the value of metadata `{key}`");
    Ok(match read_type(cursor, key, &what)? {
        ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.array(&what)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.array(&what)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array(&what)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array(&what)?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(cursor.array(&what)?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array(&what)?)),
        ValueType::U64 => Value::U64(u64::from_le_bytes(cursor.array(&what)?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array(&what)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array(&what)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array(&what)?)),
        ValueType::Bool => Value::Bool(read_bool(key, cursor.array(&what)?)?),
        ValueType::String => Value::String(cursor.string(&what)?),
        ValueType::Array => Value::Array(read_array(cursor, key, &what, 1)?),
    })
}

fn read_type<R: Read + Seek>(
    cursor: &mut Cursor<'_, R>,
    key: &str,
    what: &str,
) -> Result<ValueType, GgufError> {
    let number = cursor.u32(what)?;
    ValueType::from_number(number).ok_or_else(|| GgufError::unknown_value_type(key, number))
}

fn read_bool(key: &str, [byte]: [u8; 1]) -> Result<bool, GgufError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(GgufError::BadBool {
            key: key.to_owned(),
            byte,
        }),
    }
}

fn read_array<R: Read + Seek>(
    cursor: &mut Cursor<'_, R>,
    key: &str,
    what: &str,
    depth: u32,
) -> Result<Array, GgufError> {
    if depth > MAX_ARRAY_DEPTH {
        return Err(GgufError::TooDeep {
            key: key.to_owned(),
            most: MAX_ARRAY_DEPTH,
        });
    }
    let kind = read_type(cursor, key, what)?;
    let count = cursor.u64(what)?;
    if count > MAX_ARRAY_ITEMS {
        return Err(GgufError::AbsurdCount {
            what: format!("items in metadata `{key}`"),
            count,
            most: MAX_ARRAY_ITEMS,
        });
    }
    cursor.check_room(|| what.to_owned(), count * kind.min_bytes())?;
    Ok(match kind {
        ValueType::U8 => Array::U8(cursor.items(what, count, u8::from_le_bytes)?),
        ValueType::I8 => Array::I8(cursor.items(what, count, i8::from_le_bytes)?),
        ValueType::U16 => Array::U16(cursor.items(what, count, u16::from_le_bytes)?),
        ValueType::I16 => Array::I16(cursor.items(what, count, i16::from_le_bytes)?),
        ValueType::U32 => Array::U32(cursor.items(what, count, u32::from_le_bytes)?),
        ValueType::I32 => Array::I32(cursor.items(what, count, i32::from_le_bytes)?),
        ValueType::U64 => Array::U64(cursor.items(what, count, u64::from_le_bytes)?),
        ValueType::I64 => Array::I64(cursor.items(what, count, i64::from_le_bytes)?),
        ValueType::F32 => Array::F32(cursor.items(what, count, f32::from_le_bytes)?),
        ValueType::F64 => Array::F64(cursor.items(what, count, f64::from_le_bytes)?),
        ValueType::Bool => {
            let bytes = cursor.items(what, count, |byte: [u8; 1]| byte)?;
            Array::Bool(
                bytes
                    .into_iter()
                    .map(|byte| read_bool(key, byte))
                    .collect::<Result<_, _>>()?,
            )
        }
        ValueType::String => {
            let mut strings = Vec::new();
            for _ in 0..count {
                strings.push(cursor.string(what)?);
            }
            Array::String(strings)
        }
        ValueType::Array => {
            let mut arrays = Vec::new();
            for _ in 0..count {
                arrays.push(read_array(cursor, key, what, depth + 1)?);
            }
            Array::Array(arrays)
        }
    })
}
