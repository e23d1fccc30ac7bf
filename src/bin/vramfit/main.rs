//! `vramfit`, the command line: a thin shell over the engine.

#![cfg_attr(target_family = "wasm", allow(dead_code, unused))]

#[cfg(not(target_family = "wasm"))]
mod args;
#[cfg(not(target_family = "wasm"))]
mod files;
#[cfg(not(target_family = "wasm"))]
mod print;
#[cfg(not(target_family = "wasm"))]
mod source;
#[cfg(not(target_family = "wasm"))]
mod transport;

#[cfg(target_family = "wasm")]
fn main() {}

#[cfg(not(target_family = "wasm"))]
fn main() -> std::process::ExitCode {
    use clap::FromArgMatches;
    let matches = args::Arguments::in_words().get_matches();
    let arguments = args::Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match run(&arguments, &matches) {
        Ok(fits) => std::process::ExitCode::from(u8::from(!fits)),
        Err(message) => {
            print::error(&message);
            std::process::ExitCode::from(2)
        }
    }
}

/// Does what is asked; `Ok(false)` when `--check` was given and the answer is no.
#[cfg(not(target_family = "wasm"))]
fn run(arguments: &args::Arguments, matches: &clap::ArgMatches) -> Result<bool, String> {
    use args::Verb;
    use vramfit::{memory, plan, report};

    let text = |error: &dyn std::fmt::Display| error.to_string();
    match &arguments.verb {
        Verb::Estimate { model, scenario, check, format } => {
            let said = args::Arguments::of_the_other_task(matches, scenario.task());
            let (scenario, of_gpus) = scenario.to_scenario()?;
            let scenario = with_draft(scenario, model)?;
            let model = source::open(model)?;
            let mut estimate = memory::estimate(&model, &scenario).map_err(|error| args::refusal(&error))?;
            estimate.warnings.extend(said.into_iter().chain(of_gpus));
            let longest = plan::longest_context(&model, &scenario).map_err(|error| text(&error))?;
            match format {
                args::Format::Json => print::json(&report::estimate_json(&model, &scenario, &estimate, longest).map_err(|error| text(&error))?),
                args::Format::Table => print::estimate(&model, &estimate, longest).map_err(|error| text(&error))?,
            }
            let fits = estimate.fits().map_err(|error| text(&error))?;
            Ok(fits || !check)
        }
        Verb::Inspect { model, format } => {
            let model = source::open(model)?;
            match format {
                args::Format::Json => print::json(&report::inspect_json(&model).map_err(|error| text(&error))?),
                args::Format::Table => print::inspect(&model).map_err(|error| text(&error))?,
            }
            Ok(true)
        }
        Verb::Solve { model, scenario, question, format } => {
            let (scenario, of_gpus) = scenario.to_scenario()?;
            let scenario = with_draft(scenario, model)?;
            let model = source::open(model)?;
            let question = question.meant();
            let notes: Vec<String> = args::Arguments::of_the_other_task(matches, scenario.task).into_iter().chain(of_gpus).collect();
            let found = plan::solve(&model, &scenario, question).map_err(|error| args::refusal(&error))?;
            match format {
                args::Format::Json => print::json(&report::solve_json(&model, question, found, &notes)),
                args::Format::Table => print::solved(&model, question, found, &notes),
            }
            Ok(true)
        }
        Verb::Gpus { format } => {
            match format {
                args::Format::Json => print::json(&report::gpus_json()),
                args::Format::Table => print::gpus(),
            }
            Ok(true)
        }
        Verb::Formats { format } => {
            match format {
                args::Format::Json => print::json(&report::formats_json()),
                args::Format::Table => print::formats(),
            }
            Ok(true)
        }
    }
}

/// The scenario with its draft model read, from where the model is read too.
#[cfg(not(target_family = "wasm"))]
fn with_draft(mut scenario: vramfit::scenario::Scenario, model: &args::ModelArguments) -> Result<vramfit::scenario::Scenario, String> {
    if let Some(draft) = &mut scenario.serving.draft {
        let named = args::ModelArguments { model: vec![draft.name.clone()], manual: None, revision: None, quant_config: None, ..model.clone() };
        draft.model = Some(std::sync::Arc::new(source::open(&named)?));
    }
    Ok(scenario)
}
