//! The reader's work, over any [`Transport`].

use super::kept::{self, Recorder, Store};
use super::{Answer, Failure, Found, Offer, Progress, What, Wish};
use crate::files::{self, Bases, Disk, FileSet, FilesError, Named, NoFiles, Opened};
use crate::hub::{self, Endpoint, HubError, ModelRef, RepoId, Transport};
use crate::link::ModelLink;
use crate::model::{Model, Origin, Provenance};
use crate::{catalogue, config};
use config::manual::{self, Manual};

/// Files that were picked or dropped.
#[derive(Clone, Debug)]
pub struct Picked<D> {
    /// Where their bytes come from.
    pub disk: D,
    /// Their paths.
    pub files: Vec<String>,
}

impl Picked<NoFiles> {
    /// No files.
    pub const fn nothing() -> Self {
        Self { disk: NoFiles, files: Vec::new() }
    }
}

/// Reads the model that is wanted, from the Hub behind `transport` or among the files `picked`; what was read of the Hub before
/// and is in `store` is used where the Hub need not or cannot be asked. Drop the future to cancel.
pub async fn answer<T: Transport, S: Store, D: Disk>(transport: &T, store: &S, picked: &Picked<D>, wish: &Wish, progress: &dyn Fn(Progress)) -> Answer {
    let (text, revision, may_be_built_in) = match &wish.what {
        What::Config(text) => return Answer { endpoint: None, result: pasted(text) },
        What::Manual(text) => return Answer { endpoint: None, result: by_hand(text) },
        What::Files { chosen } => {
            let bases = OnHub { transport, wish, progress };
            return Answer { endpoint: None, result: own(picked, chosen.as_ref(), &bases).await };
        }
        What::Named(id) => match built_in(id, String::new()) {
            Some(found) => return Answer { endpoint: None, result: Ok(found) },
            None => (id, None, false),
        },
        What::Hub { text, revision, may_be_built_in } => (text, revision.as_ref(), *may_be_built_in),
    };
    let reference = match reference(text, revision) {
        Ok(reference) => reference,
        Err(error) => return Answer { endpoint: None, result: Err(failure(&error)) },
    };
    let endpoint = reference.endpoint.as_ref().map(|own| own.as_str().to_owned());
    let result = match read(transport, store, wish, &reference, progress).await {
        Err(HubError::Offline { .. } | HubError::TimedOut) if may_be_built_in && is_built_in(&reference) => {
            let note = "The Hub cannot be reached, so these are the built-in figures.".to_owned();
            built_in(reference.id.as_str(), note).ok_or_else(|| failure(&HubError::TimedOut))
        }
        result => result.map_err(|error| failure(&error)),
    };
    Answer { endpoint, result }
}

/// The model that a text names, at a revision where the text says none.
pub(super) fn reference(text: &str, revision: Option<&String>) -> Result<ModelRef, HubError> {
    let reference: ModelRef = text.parse()?;
    let revision = reference.revision.clone().or_else(|| revision.cloned());
    Ok(ModelRef { revision, ..reference })
}

async fn read<T: Transport, S: Store>(transport: &T, store: &S, wish: &Wish, reference: &ModelRef, progress: &dyn Fn(Progress)) -> Result<Found, HubError> {
    let chosen = chosen_hub(wish)?;
    let endpoint = reference.endpoint.as_ref().unwrap_or(&chosen);
    let asked = kept::key(endpoint, reference);
    if let Some(commit) = reference.revision.as_deref().filter(|revision| kept::is_commit(revision))
        && let Some((model, date)) = kept::open(store, &asked, endpoint, progress).await
        && model.provenance.revision.as_deref() == Some(commit)
    {
        return Ok(found(model, reference, format!("kept here since {date}")));
    }
    let recorder = Recorder::new(transport);
    match hub::open(&recorder, &chosen, reference, wish.token.as_deref(), progress).await {
        Ok(model) => {
            let found = found(model, reference, String::new());
            let has_token = wish.token.is_some() && *endpoint == chosen;
            if let (ModelLink::Hub { id, revision: Some(commit) }, false) = (&found.link, has_token)
                && let Ok(same) = self::reference(id, Some(commit))
            {
                recorder.keep(store, reference, kept::key(endpoint, &same), asked).await;
            }
            Ok(found)
        }
        Err(error @ (HubError::Offline { .. } | HubError::TimedOut)) => match kept::open(store, &asked, endpoint, progress).await {
            Some((model, date)) => Ok(found(model, reference, format!("The Hub cannot be reached: as it was read on {date}"))),
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// A model on the Hub, as it was read; a folder of a repository is named with its path, and a file where another model would be
/// read without it: weights that were chosen, or a config beside weights of which nothing is read.
fn found(model: Model, reference: &ModelRef, note: String) -> Found {
    let mut id = model.provenance.id.clone().unwrap_or_else(|| reference.id.to_string());
    let revision = model.provenance.revision.clone().or_else(|| reference.revision.clone());
    let endings: &[&str] = if model.provenance.source == Origin::Config { &[".safetensors", ".json"] } else { &[".safetensors"] };
    let file = reference.file.as_ref().filter(|file| endings.iter().any(|end| file.ends_with(end)));
    if let Ok(repo) = RepoId::parse(&id) {
        match (file, &reference.folder) {
            // An id without a slash ends where its revision begins.
            (Some(file), _) => id = repo.address_of(revision.as_deref().filter(|_| !id.contains('/')), file),
            (None, Some(folder)) => id = repo.address_of_folder(revision.as_deref().unwrap_or("main"), folder),
            (None, None) => {}
        }
    }
    Found { model, link: ModelLink::Hub { id, revision }, note }
}

fn is_built_in(reference: &ModelRef) -> bool {
    reference.is_plain() && catalogue::is_known(reference.id.as_str())
}

/// The catalogue's model.
fn built_in(id: &str, note: String) -> Option<Found> {
    let model = catalogue::open(id)?.ok()?;
    let id = model.provenance.id.clone()?;
    Some(Found { model, link: ModelLink::Hub { id, revision: None }, note })
}

/// A pasted config.json.
fn pasted(text: &str) -> Result<Found, Failure> {
    let anatomy = config::read(text).map_err(|error| Failure::new(&error.to_string(), "Paste the whole of the model's config.json."))?;
    let provenance = Provenance { id: None, revision: None, source: Origin::Config, files: None, notes: Vec::new() };
    // Without its spaces, so that the link stays short.
    let link = ModelLink::Config(config::json::compact(text));
    Ok(Found { model: Model { anatomy, provenance }, link, note: String::new() })
}

/// A model by hand; `mistral:7b` looks like a size and is a name.
fn by_hand(text: &str) -> Result<Found, Failure> {
    if let (false, Err(error @ HubError::OllamaTag(_))) = (manual::has_sizes(text), text.parse::<ModelRef>()) {
        return Err(failure(&error));
    }
    let Manual { anatomy, text } =
        manual::read(text).map_err(|error| Failure::new(&error.to_string(), "Give the sizes as the model's description has them."))?;
    let provenance = Provenance { id: None, revision: None, source: Origin::Manual, files: None, notes: Vec::new() };
    Ok(Found { model: Model { anatomy, provenance }, link: ModelLink::Manual(text), note: String::new() })
}

/// Files of one's own.
async fn own<T: Transport, D: Disk>(picked: &Picked<D>, chosen: Option<&String>, bases: &OnHub<'_, T>) -> Result<Found, Failure> {
    let named = chosen.map_or_else(|| Named::together(&picked.files), |file| Named::Files(std::slice::from_ref(file)));
    let Opened { mut model, config } = files::open(&picked.disk, named, None, bases, bases.progress).await.map_err(|error| unopened(&error))?;
    let name = match named {
        Named::Folder { path, .. } if !path.is_empty() => path,
        Named::Folder { files, .. } | Named::Files(files) => files.first().map_or("", String::as_str),
    };
    model.provenance.id = Some(name.to_owned());
    let link = config.map_or_else(|| ModelLink::Files(name.to_owned()), |text| ModelLink::Config(config::json::compact(&text)));
    Ok(Found { model, link, note: String::new() })
}

/// Models on the Hub that adapters of one's own were made for.
struct OnHub<'a, T> {
    transport: &'a T,
    wish: &'a Wish,
    progress: &'a dyn Fn(Progress),
}

impl<T: Transport> Bases for OnHub<'_, T> {
    async fn open(&self, name: &str, revision: Option<&str>) -> Result<Model, FilesError> {
        let revision = revision.map(str::to_owned);
        let opened = match (chosen_hub(self.wish), reference(name, revision.as_ref())) {
            (Ok(hub), Ok(reference)) => hub::open(self.transport, &hub, &reference, self.wish.token.as_deref(), self.progress).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        opened.map_err(|error| FilesError::Base(Box::new(error)))
    }
}

/// The Hub that the page is set to.
fn chosen_hub(wish: &Wish) -> Result<Endpoint, HubError> {
    Ok(wish.endpoint.as_deref().map_or_else(|| Ok(Endpoint::default()), Endpoint::parse)?)
}

fn unopened(error: &FilesError) -> Failure {
    if let FilesError::Base(base) = error {
        return Failure { problem: crate::format::sentence(&error.to_string()), ..failure(base) };
    }
    let offer = |file: &FileSet| Offer { file: file.clone(), what: What::Files { chosen: Some(file.path.clone()) } };
    let files = match error {
        FilesError::ChooseFile { files } => files.iter().map(offer).collect(),
        _ => Vec::new(),
    };
    Failure { files, ..Failure::new(&error.to_string(), error.advice()) }
}

fn failure(error: &HubError) -> Failure {
    let files = match error.files_to_choose() {
        Some((repo, revision, files)) => files.iter().map(|file| offer(repo, revision, file)).collect(),
        None => Vec::new(),
    };
    Failure { may_retry: error.may_retry(), wants_token: error.wants_token(), files, ..Failure::new(&error.to_string(), error.advice()) }
}

fn offer(repo: &RepoId, revision: Option<&String>, file: &FileSet) -> Offer {
    let what = What::Hub { text: repo.address_of(None, &file.path), revision: revision.cloned(), may_be_built_in: false };
    Offer { file: file.clone(), what }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::hub::{Request, Response, TransportError};
    use crate::reader::{NothingKept, decode, encode};

    struct Unplugged;

    impl Transport for Unplugged {
        async fn get(&self, _: Request) -> Result<Response, TransportError> {
            Err(TransportError::Offline("unplugged".to_owned()))
        }

        async fn pause(&self, _: u64) {}
    }

    /// Files in memory.
    impl Disk for Vec<(&str, &[u8])> {
        fn size(&self, path: &str) -> Option<u64> {
            self.iter().find(|(name, _)| *name == path).map(|(_, content)| content.len() as u64)
        }

        async fn read(&self, path: &str, at: u64, bytes: u64) -> Result<Vec<u8>, String> {
            let content = self.iter().find(|(name, _)| *name == path).ok_or("it is gone")?.1;
            Ok(content.iter().copied().skip(usize::try_from(at).unwrap()).take(usize::try_from(bytes).unwrap()).collect())
        }
    }

    fn ask(what: What) -> Answer {
        ask_with(Vec::new(), what)
    }

    fn ask_with(disk: Vec<(&'static str, &'static [u8])>, what: What) -> Answer {
        let picked = Picked { files: disk.iter().map(|(name, _)| (*name).to_owned()).collect(), disk };
        let wish = Wish { what, endpoint: None, token: None };
        assert_eq!(decode::<Wish>(&encode(&wish)).as_ref(), Some(&wish));
        let mut answer = std::pin::pin!(answer(&Unplugged, &NothingKept, &picked, &wish, &|_| {}));
        match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    fn on_hub(text: &str, may_be_built_in: bool) -> Answer {
        ask(What::Hub { text: text.to_owned(), revision: None, may_be_built_in })
    }

    #[test]
    fn every_built_in_model_crosses_unchanged() {
        assert!(crate::reader::built_in_ids().lines().eq(catalogue::ids()));
        for id in catalogue::ids() {
            let answer = ask(What::Named(id.to_owned()));
            let there = decode::<Answer>(&encode(&answer)).unwrap();
            assert_eq!(there, answer, "{id}");
            assert_eq!(there.result.unwrap().link, ModelLink::Hub { id: id.to_owned(), revision: None });
        }
    }

    #[test]
    fn bytes_of_something_else_are_refused() {
        let bytes = encode(&ask(What::Named("openai-community/gpt2".to_owned())));
        for end in 0..bytes.len() {
            assert_eq!(decode::<Answer>(&bytes[..end]), None, "{end}");
        }
        assert_eq!(decode::<Answer>(&[0xff; 64]), None);
    }

    #[test]
    fn a_pasted_config_is_read_or_refused_with_its_key() {
        let config =
            r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100}"#;
        let found = ask(What::Config(config.to_owned())).result.unwrap();
        assert_eq!(found.link, ModelLink::Config(config.replace([' ', '\n'], "")));
        let failure = ask(What::Config(config.replace("64", "-1"))).result.unwrap_err();
        assert!(failure.problem.contains("hidden_size"), "{failure:?}");
    }

    #[test]
    fn a_model_by_hand_is_read_or_its_size_is_named() {
        let found = ask(What::Manual("layers=2, hidden=64, heads=4, intermediate=128, vocab=100".to_owned())).result.unwrap();
        assert_eq!(found.link, ModelLink::Manual("layers:2,hidden:64,heads:4,intermediate:128,vocab:100".to_owned()));
        assert_eq!(found.model.provenance.source.name(), "manual");
        let failure = ask(What::Manual("layers=2,hidden=64,heads=4,vocab=100".to_owned())).result.unwrap_err();
        assert!(failure.problem.contains("`intermediate`"), "{failure:?}");
        for what in [What::Manual("mistral:7b".to_owned()), What::Hub { text: "llama3.1:8b".to_owned(), revision: None, may_be_built_in: true }] {
            let failure = ask(what).result.unwrap_err();
            assert!(failure.problem.contains("Ollama") && failure.advice.contains("ORG/NAME:Q4_K_M"), "{failure:?}");
        }
    }

    #[test]
    fn files_are_read_and_links_say_that_they_were_meant() {
        const CONFIG: &[u8] =
            br#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 100}"#;
        let files = |disk: Vec<(&'static str, &'static [u8])>| ask_with(disk, What::Files { chosen: None }).result;
        let found = files(vec![("mine.json", CONFIG)]).unwrap();
        assert!(matches!(found.link, ModelLink::Config(_)), "a config is all that a link needs");
        assert_eq!(found.model.provenance.id.as_deref(), Some("mine.json"));
        let failure = files(vec![("notes.txt", b"hello")]).unwrap_err();
        assert!(failure.problem.contains("notes.txt") && failure.problem.contains("neither"), "{failure:?}");
        // Of a folder, what is of no use is passed over.
        let found = files(vec![("m/config.json", CONFIG), ("m/tokenizer.json", b"{}"), ("m/notes.txt", b"hello")]).unwrap();
        assert_eq!(found.model.provenance.id.as_deref(), Some("m"));
        // Folders of several parts, as on the Hub; what an adapter was made for is asked of the Hub.
        let index = br#"{"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}"#;
        let vae = br#"{"_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "latent_channels": 16}"#;
        let pipeline = files(vec![("p/model_index.json", index), ("p/vae/config.json", vae)]).unwrap();
        assert_eq!((pipeline.model.anatomy.model_type.as_str(), pipeline.model.anatomy.components.len()), ("FluxPipeline", 1));
        let adapter: &[u8] = br#"{"peft_type": "LORA", "base_model_name_or_path": "base", "r": 2, "target_modules": ["q_proj"]}"#;
        let lora = files(vec![("a/adapter_config.json", adapter), ("a/base/config.json", CONFIG)]).unwrap();
        assert_eq!(lora.model.anatomy.components.last().unwrap().parameters().unwrap().get(), 2 * 2 * 2 * 64, "two layers, two matrices of 64 by 2");
        let alone = files(vec![("adapter_config.json", adapter)]).unwrap_err();
        assert!(alone.problem.contains("unplugged") && alone.may_retry, "{alone:?}");
        let twice = files(vec![("a/adapter_config.json", adapter), ("a/base/adapter_config.json", adapter)]).unwrap_err();
        assert!(twice.problem.contains("is an adapter too"), "{twice:?}");
        assert!(files(vec![("m/notes.txt", b"hello")]).unwrap_err().problem.contains("config.json"));
        assert!(files(Vec::new()).is_err());
    }

    #[test]
    fn without_a_network_the_catalogue_answers_where_it_may() {
        let found = on_hub("openai-community/gpt2", true).result.unwrap();
        assert!(found.note.contains("cannot be reached"));
        assert!(on_hub("openai-community/gpt2", false).result.unwrap_err().may_retry);
        assert!(on_hub("openai-community/gpt2@v1", true).result.is_err(), "a revision is not what the catalogue has");
        assert!(on_hub("nobody/nothing", true).result.unwrap_err().problem.contains("unplugged"));
        assert!(ask(What::Named("nobody/nothing".to_owned())).result.unwrap_err().problem.contains("unplugged"), "what is not built in is asked of the Hub");
        assert!(!on_hub("not a name", true).result.unwrap_err().may_retry);
        let other = on_hub("https://hub.example/org/name", false);
        assert_eq!(other.endpoint.as_deref(), Some("https://hub.example"));
    }
}
