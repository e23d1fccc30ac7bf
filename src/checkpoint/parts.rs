//! Weight files of models that are made of parts, each in a folder of its own.

use super::Header;
use crate::model::{Files, Role, Tensor};
use crate::quantity::{Bytes, Overflow, ParamCount};

/// Names of files that hold all weights of a part.
const WHOLE: &[&str] = &["model", "diffusion_pytorch_model"];

/// The inventory of one file of a part as it is: every tensor is loaded, its name behind its part's (`vae/decoder.conv_in.weight`).
///
/// # Errors
/// [`Overflow`] when the sizes add up to more than is possible.
pub fn inventory_of_part(part: &str, header: &Header) -> Result<Files, Overflow> {
    let mut sum = Files { count: 1, ..Files::default() };
    for stored in &header.tensors {
        let path = stored.name.rsplit_once('.').map_or(stored.name.as_str(), |(path, _)| path);
        let name = if part.is_empty() { stored.name.clone() } else { format!("{part}/{}", stored.name) };
        let tensor = Tensor { role: Role::of_module(path), name, shape: stored.shape.clone(), count: 1, stored: Some(stored.encoding) };
        sum.bytes = sum.bytes.plus(Bytes(stored.end.saturating_sub(stored.begin)))?;
        sum.elements = sum.elements.plus(ParamCount(tensor.elements()?.get()))?;
        sum.loaded.push((tensor, 1));
    }
    Ok(sum)
}

/// The files of one part to read, among the `names` in its folder: the plain set where there is one, else the first of its variants
/// (`diffusion_pytorch_model.fp16.safetensors`). A file that holds the whole wins over shards.
pub fn files_of_part(names: &[String]) -> Vec<String> {
    let mut chosen: Vec<(String, Vec<String>)> = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".safetensors")) {
        let variant = variant(name);
        match chosen.iter_mut().find(|(known, _)| *known == variant) {
            Some((_, files)) => files.push(name.clone()),
            None => chosen.push((variant, vec![name.clone()])),
        }
    }
    chosen.sort();
    let mut files = chosen.into_iter().next().map(|(_, files)| files).unwrap_or_default();
    if let Some(whole) = files.iter().position(|name| !name.contains("-of-") && WHOLE.contains(&name.split('.').next().unwrap_or_default())) {
        files = vec![files.swap_remove(whole)];
    }
    files
}

/// `fp16` in `model.fp16.safetensors` and `model.fp16-00001-of-00002.safetensors`; empty without.
fn variant(name: &str) -> String {
    let stem = name.strip_suffix(".safetensors").unwrap_or(name);
    let Some((_, variant)) = stem.split_once('.') else { return String::new() };
    variant.split_once('-').map_or(variant, |(variant, _)| variant).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_in_another_precision_are_not_read() {
        let pick = |names: &[&str]| files_of_part(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(pick(&["a.fp16.safetensors", "a.safetensors", "config.json"]), ["a.safetensors"]);
        let shards = ["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"];
        assert_eq!(pick(&shards), shards);
        assert_eq!(pick(&["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors", shards[0], shards[1]]).len(), 2);
        assert_eq!(pick(&["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors"]), ["model.safetensors"]);
        assert!(pick(&["a.bin"]).is_empty());
    }
}
