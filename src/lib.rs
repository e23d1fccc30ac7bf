//! vramfit: will a neural network fit a GPU, and why?
//!
//! This is the map of the engine: a pure library without web types, I/O or a clock. The page (`src/main.rs`, `src/app/`) and the
//! command line (`src/bin/`) are thin shells over it. Data moves one way:
//!
//! ```text
//! text or file -> hub / files / checkpoint / config -> Model        what a model is, with where that is known from
//!                 Model + Scenario (with its GPU) -> Estimate   a ledger per device, every entry with its formula
//!                 Estimate -> report / chart / page         views
//! ```
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`quantity`], [`format`] | sizes and counts as checked `u64` newtypes; how they are printed |
//! | [`encoding`] | how values are stored: one table of (block elements, block bytes) |
//! | [`formula`] | one tree that is evaluated and printed; each leaf with its source |
//! | [`weight_format`] | formats of weights as data: layouts, names, llama.cpp's recipes |
//! | [`model`] | components, layers, tensors by role |
//! | [`config`] | config.json to a model; one small file per family |
//! | [`checkpoint`] | headers of weight files to tensors |
//! | [`repository`] | repositories of several parts: pipelines, adapters, sentence-transformers |
//! | [`hub`] | the Hub's protocol, over a `Transport` |
//! | [`files`] | models in files that the user has, over a `Disk` |
//! | [`catalogue`] | built-in models |
//! | [`reader`] | what the page asks of the part of it that reads models |
//! | [`gpu`] | what a GPU has |
//! | [`weights`] | every tensor of a model as a format stores it |
//! | [`scenario`] | what the user asks |
//! | `fixed` | texts and lists of the program that cross between the page's modules |
//! | [`estimate`] | what comes out: entries, stages, moments, verdict |
//! | [`runtime`] | how each engine spends memory |
//! | [`memory`] | model + scenario -> estimate |
//! | [`plan`] | inverse questions |
//! | [`markup`] | elements as text, and what differs between two writings of them |
//! | [`report`], [`link`], [`chart`] | JSON and tables; scenario <-> URL; drawings as SVG |

pub mod catalogue;
pub mod chart;
pub mod checkpoint;
pub mod config;
pub mod encoding;
pub mod estimate;
pub mod files;
mod fixed;
pub mod format;
pub mod formula;
pub mod gpu;
pub mod hub;
pub mod link;
pub mod markup;
pub mod memory;
pub mod model;
mod order;
pub mod plan;
pub mod quantity;
pub mod reader;
pub mod report;
pub mod repository;
pub mod runtime;
pub mod scenario;
pub mod weight_format;
pub mod weights;
