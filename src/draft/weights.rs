//! A drafter's weights from a safetensors file, checked against the model they were trained for.

use safetensors::{Dtype, SafeTensors};
use wgpu::Buffer;

use crate::{
    gpu::{Gpu, GpuError},
    model::LoadError,
    ops::{Matrix, MatrixWriter, WeightType},
    tree::TreeBuildError,
};

/// Why a drafter can't be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrafterLoadError {
    /// The file is no safetensors file, or is damaged.
    #[error("the drafter's weights are no valid safetensors file: {message}")]
    File {
        /// What is wrong.
        message: String,
    },
    /// A tensor is missing.
    #[error(
        "the drafter's weights lack the tensor `{tensor}`; give the file of this kind of drafter"
    )]
    Missing {
        /// Its name.
        tensor: String,
    },
    /// A tensor has a shape that the model does not.
    #[error(
        "tensor `{tensor}` of the drafter has shape {given:?}, but the model needs {needed:?}: \
         these weights were trained for another model"
    )]
    Shape {
        /// Its name.
        tensor: String,
        /// Shape in the file.
        given: Vec<usize>,
        /// Shape that fits the model.
        needed: Vec<usize>,
    },
    /// A tensor of a type other than F16.
    #[error("tensor `{tensor}` of the drafter is stored as {given}; the kernels take F16")]
    Type {
        /// Its name.
        tensor: String,
        /// Its type.
        given: String,
    },
    /// The draft vocabulary names a token that the model does not have.
    #[error("the draft vocabulary needs token ids below {vocabulary}, but has {given}")]
    Vocabulary {
        /// Ids the model has.
        vocabulary: u32,
        /// What was given.
        given: String,
    },
    /// A draft model has other tokens than the model it is to draft for.
    #[error(
        "the draft model has another vocabulary: {given} where the model has {needed}; use a smaller model of the same family"
    )]
    OtherVocabulary {
        /// What the model has.
        needed: String,
        /// What the draft model has.
        given: String,
    },
    /// An option is outside its range.
    #[error("`{option}` needs to be {needed} but is {given}; change the drafter's options")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its range.
        needed: String,
        /// What was given.
        given: String,
    },
    /// The model's own part failed.
    #[error(transparent)]
    Model(#[from] LoadError),
    /// A builder of trees refused its sizes.
    #[error(transparent)]
    Tree(#[from] TreeBuildError),
    /// The device refused a kernel or buffer.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// The tensors of one file.
pub(super) struct WeightFile<'a> {
    gpu: &'a Gpu,
    tensors: SafeTensors<'a>,
}

impl<'a> WeightFile<'a> {
    pub fn new(gpu: &'a Gpu, bytes: &'a [u8]) -> Result<Self, DrafterLoadError> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| DrafterLoadError::File {
            message: error.to_string(),
        })?;
        Ok(Self { gpu, tensors })
    }

    /// The bytes of an F16 tensor of the given shape.
    fn bytes(&self, name: &str, shape: &[u32]) -> Result<&[u8], DrafterLoadError> {
        let tensor = || name.to_owned();
        let view = (self.tensors.tensor(name))
            .map_err(|_| DrafterLoadError::Missing { tensor: tensor() })?;
        let needed: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
        if view.shape() != needed {
            return Err(DrafterLoadError::Shape {
                tensor: tensor(),
                given: view.shape().to_vec(),
                needed,
            });
        }
        if view.dtype() != Dtype::F16 {
            return Err(DrafterLoadError::Type {
                tensor: tensor(),
                given: format!("{:?}", view.dtype()),
            });
        }
        let slice: &[u8] = self.tensors.tensor(name).map_or(&[], |view| view.data());
        Ok(slice)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// The values of a vector.
    pub fn values(&self, name: &str, width: u32) -> Result<Vec<f32>, DrafterLoadError> {
        let bytes = self.bytes(name, &[width])?;
        let value = |b: &[u8]| half::f16::from_le_bytes([b[0], b[1]]).to_f32();
        Ok(bytes.chunks_exact(2).map(value).collect())
    }

    /// A vector as f32.
    pub fn vector(&self, name: &str, width: u32) -> Result<Buffer, DrafterLoadError> {
        Ok(self.gpu.storage_with(name, &self.values(name, width)?)?)
    }

    /// The rows of square tensors `[width, width]`, one after the other, each tensor padded with zero rows to
    /// `padded` rows.
    pub fn padded(
        &self,
        names: &[String],
        width: u32,
        padded: u32,
    ) -> Result<Matrix, DrafterLoadError> {
        let rows = names.len() as u32 * padded;
        let mut writer = MatrixWriter::new(self.gpu, "draft", WeightType::F16, rows, width)?;
        let zeros = vec![0; width as usize * 2];
        for name in names {
            writer.push_rows(self.bytes(name, &[width, width])?);
            for _ in width..padded {
                writer.push_rows(&zeros);
            }
        }
        Ok(writer.finish())
    }

    /// The rows of several tensors `[rows, columns]`, one after the other.
    pub fn stacked(&self, parts: &[(&str, u32)], columns: u32) -> Result<Matrix, DrafterLoadError> {
        let rows = parts.iter().map(|part| part.1).sum();
        let mut writer = MatrixWriter::new(self.gpu, "draft", WeightType::F16, rows, columns)?;
        for (name, rows) in parts {
            writer.push_rows(self.bytes(name, &[*rows, columns])?);
        }
        Ok(writer.finish())
    }

    /// Columns `first..first + columns` of a tensor `[rows, all]`.
    pub fn columns(
        &self,
        name: &str,
        [rows, all]: [u32; 2],
        first: u32,
        columns: u32,
    ) -> Result<Matrix, DrafterLoadError> {
        let mut writer = MatrixWriter::new(self.gpu, name, WeightType::F16, rows, columns)?;
        let bytes = self.bytes(name, &[rows, all])?;
        for row in bytes.chunks_exact(all as usize * 2) {
            writer.push_rows(&row[first as usize * 2..][..columns as usize * 2]);
        }
        Ok(writer.finish())
    }

    /// Gate and up projection `[rows, columns]`, 16 rows of each in turn, padded with zeros.
    pub fn gate_up(
        &self,
        gate: &str,
        up: &str,
        rows: u32,
        columns: u32,
    ) -> Result<Matrix, DrafterLoadError> {
        const HALF: u32 = 16;
        let padded = rows.next_multiple_of(HALF);
        let row_bytes = columns as usize * 2;
        let tensors = [
            self.bytes(gate, &[rows, columns])?,
            self.bytes(up, &[rows, columns])?,
        ];
        let mut writer = MatrixWriter::new(self.gpu, gate, WeightType::F16, 2 * padded, columns)?;
        let zeros = vec![0; row_bytes];
        for first in (0..padded).step_by(HALF as usize) {
            for tensor in tensors {
                for row in first..first + HALF {
                    let at = row as usize * row_bytes;
                    writer.push_rows(tensor.get(at..at + row_bytes).unwrap_or(&zeros));
                }
            }
        }
        Ok(writer.finish())
    }
}
