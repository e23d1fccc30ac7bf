//! The model that the page shows first lies beside the catalogue as the bytes that the reader answers with. They follow from the
//! catalogue and from the families; this test says when they do not any more, and writes them anew when told to:
//! `VRAMFIT_WRITE=1 cargo test --test first_model`.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use vramfit::catalogue::DEFAULT_MODEL;
use vramfit::hub::{Request, Response, Transport, TransportError};
use vramfit::reader::{FIRST, NothingKept, Picked, What, Wish, answer, encode};

struct Unplugged;

impl Transport for Unplugged {
    async fn get(&self, _: Request) -> Result<Response, TransportError> {
        Err(TransportError::Offline(String::new()))
    }

    async fn pause(&self, _: u64) {}
}

#[test]
fn the_first_model_is_the_catalogues() {
    let wish = Wish { what: What::Named(DEFAULT_MODEL.to_owned()), endpoint: None, token: None };
    let nothing = Picked::nothing();
    let mut work = pin!(answer(&Unplugged, &NothingKept, &nothing, &wish, &|_| {}));
    let Poll::Ready(answer) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { panic!("nothing here waits") };
    assert!(answer.result.is_ok());
    let bytes = encode(&answer);
    if std::env::var_os("VRAMFIT_WRITE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models/first.bin"), &bytes).unwrap();
        return;
    }
    assert!(bytes == FIRST, "assets/models/first.bin is not what the reader answers any more: run `VRAMFIT_WRITE=1 cargo test --test first_model`");
}
