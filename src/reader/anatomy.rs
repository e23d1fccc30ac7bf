//! The whole anatomy of a model as tables.

use crate::format::{grouped, percent_of};
use crate::markup;
use crate::model::{Anatomy, Component, Layer};
use crate::quantity::Overflow;
use crate::report;

/// Parts and their parameters, roles and theirs, the kinds of layers of each part, the keys of the config.
///
/// # Errors
/// [`Overflow`] when a count passes 2^64 - 1.
pub fn tables(anatomy: &Anatomy) -> Result<String, Overflow> {
    let mut out = String::new();
    let total = anatomy.parameters()?.get();
    head(&mut out, "Parameters by part", &["Part", "Parameters", "Share"]);
    for part in &anatomy.components {
        let parameters = part.parameters()?.get();
        let share = if anatomy.counted().any(|counted| std::ptr::eq(counted, part)) { percent_of(parameters, total) } else { "beside".to_owned() };
        row(&mut out, &part.name, &[&grouped(parameters), &share]);
    }
    out.push_str("</tbody></table>");
    head(&mut out, "Parameters by role", &["Role", "Parameters", "Share"]);
    for (role, parameters) in report::parameters_by_role(anatomy)? {
        row(&mut out, role, &[&grouped(parameters), &percent_of(parameters, total)]);
    }
    out.push_str("</tbody></table>");
    for part in anatomy.components.iter().filter(|part| !part.layers.is_empty()) {
        layers(&mut out, part);
    }
    if let Some(decoder) = anatomy.components.first() {
        kept(&mut out, decoder);
    }
    if let Some(states) = report::states(anatomy)? {
        markup::weave(&mut out, &["<p class='note'>State of one request in the decoder: ", &states.sentence(), ".</p>"]);
    }
    tensors(&mut out, anatomy)?;
    keys(&mut out, "Keys of the config that were used", &anatomy.keys_used);
    keys(&mut out, "Keys of the config that are not understood", &anatomy.keys_not_understood);
    Ok(out)
}

/// The kinds of layers of a part, in order of first appearance.
fn layers(out: &mut String, part: &Component) {
    let mut kinds: Vec<(Layer, u64)> = Vec::new();
    for run in &part.layers {
        match kinds.iter_mut().find(|(layer, _)| *layer == run.layer) {
            Some((_, count)) => *count += run.count,
            None => kinds.push((run.layer, run.count)),
        }
    }
    let title = ["Layers of ", &part.name, ": values cached per token, values of state per request"].concat();
    head(out, &title, &["Layer", "Count", "Per token", "State"]);
    for (layer, count) in kinds {
        let span = layer.mixer.span().map(|span| format!(", {span}")).unwrap_or_default();
        let cached = grouped(layer.mixer.cache_elements_per_token());
        row(out, &format!("{}{span}; {}", layer.mixer, layer.feed_forward), &[&grouped(count), &cached, &grouped(layer.mixer.state_elements_per_sequence())]);
    }
    out.push_str("</tbody></table>");
}

/// What a token leaves in the decoder's cache, by how far back its layers see.
fn kept(out: &mut String, decoder: &Component) {
    let kinds = report::cached_by_span(decoder);
    if kinds.is_empty() {
        return;
    }
    head(out, "Cache per token in the decoder", &["Kind", "Values", "Bytes at 16 bits"]);
    for (kind, elements) in kinds {
        row(out, &kind, &[&grouped(elements), &grouped(elements.saturating_mul(2))]);
    }
    out.push_str("</tbody></table>");
}

/// Every kind of tensor.
fn tensors(out: &mut String, anatomy: &Anatomy) -> Result<(), Overflow> {
    out.push_str("<details class='more'><summary>Tensors</summary>");
    head(out, "Tensors: * stands for a layer, {} for an expert", &["Tensor", "Shape", "Count", "Parameters", "Role", "Quantisers"]);
    for listed in report::listed(anatomy) {
        let tensor = listed.tensor();
        let shape: Vec<String> = tensor.shape.iter().map(|&size| grouped(size)).collect();
        let count = grouped(tensor.count.saturating_mul(listed.layers));
        let quantisers = if listed.is_left() { "leave it" } else { "take it" };
        row(out, &listed.name(), &[&shape.join(" × "), &count, &grouped(listed.elements()?), tensor.role.name(), quantisers]);
    }
    out.push_str("</tbody></table></details>");
    Ok(())
}

fn head(out: &mut String, caption: &str, columns: &[&str]) {
    markup::weave(out, &["<table><caption>", caption, "</caption><thead><tr>"]);
    for (index, column) in columns.iter().enumerate() {
        markup::weave(out, &["<th scope='col'", "", if index > 0 { " class='figure'>" } else { ">" }, column, "</th>"]);
    }
    out.push_str("</tr></thead><tbody>");
}

fn row(out: &mut String, name: &str, figures: &[&str]) {
    markup::weave(out, &["<tr><th scope='row'>", name, "</th>"]);
    for figure in figures {
        markup::weave(out, &["<td class='figure'>", figure, "</td>"]);
    }
    out.push_str("</tr>");
}

fn keys(out: &mut String, title: &str, keys: &[String]) {
    if !keys.is_empty() {
        markup::weave(out, &["<p class='note'>", title, ": ", &keys.join(", "), ".</p>"]);
    }
}
