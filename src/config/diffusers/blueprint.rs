//! Modules as their class declares them, one a line: the name, its weight's shape as PyTorch has it, `+` for a bias.
//!
//! `attn.to_q d d +` is a matrix with a bias, `norm 2d` a norm; a name behind `!` is a bare parameter. A dimension is a product of
//! numbers and symbols (`6d`, `p*p*o`), whose values come from the config.

use super::super::ConfigError;
use crate::model::{Role, Tensor};

/// The values of the symbols.
pub(super) struct Blueprint<'a>(pub &'a [(&'a str, u64)]);

impl Blueprint<'_> {
    /// The tensors of these lines, their names behind `prefix`.
    pub fn tensors(&self, prefix: &str, lines: &str) -> Result<Vec<Tensor>, ConfigError> {
        let mut tensors = Vec::new();
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let (is_bare, name) = name.strip_prefix('!').map_or((false, name), |name| (true, name));
            let (mut shape, mut has_bias) = (Vec::new(), false);
            for word in words {
                match word {
                    "+" => has_bias = true,
                    dimension => shape.push(self.value(dimension)?),
                }
            }
            let path = format!("{prefix}{name}");
            let role = Role::of_module(&path);
            let rows = shape.first().copied().unwrap_or(1);
            let mut push = |name, shape| tensors.push(Tensor { name, role, shape, count: 1, stored: None });
            if is_bare {
                push(path, shape);
                continue;
            }
            push(format!("{path}.weight"), shape);
            if has_bias {
                push(format!("{path}.bias"), vec![rows]);
            }
        }
        Ok(tensors)
    }

    /// `6d`, `p*p*o`, `256`.
    fn value(&self, dimension: &str) -> Result<u64, ConfigError> {
        dimension.split('*').try_fold(1u64, |product, factor| {
            let digits = factor.bytes().take_while(u8::is_ascii_digit).count();
            let (number, symbol) = factor.split_at(digits);
            let number = if number.is_empty() { 1 } else { number.parse().map_err(|_| ConfigError::Overflow)? };
            let symbol = match symbol {
                "" => 1,
                symbol => self.0.iter().find(|(name, _)| *name == symbol).map(|(_, value)| *value).ok_or(ConfigError::Overflow)?,
            };
            product.checked_mul(number).and_then(|product| product.checked_mul(symbol)).ok_or(ConfigError::Overflow)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_tensors() {
        let blueprint = Blueprint(&[("d", 8), ("p", 2)]);
        let tensors = blueprint.tensors("a.", "\n  attn.to_q d 3d +\n  !table 2 p*p*d\n  norm d\n").unwrap();
        let shapes: Vec<_> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
        assert_eq!(shapes, [("a.attn.to_q.weight", &[8, 24][..]), ("a.attn.to_q.bias", &[8]), ("a.table", &[2, 32]), ("a.norm.weight", &[8])]);
        assert_eq!(tensors[0].role, Role::Query);
        assert!(blueprint.tensors("", "x q").is_err() && blueprint.tensors("", "x 99999999999*99999999999").is_err());
    }
}
