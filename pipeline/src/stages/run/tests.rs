//! Stages over a desk whose document is changed while they are done.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use stemma_domain::id::ResourceId;
use stemma_inference::{RulesDetector, StaticEmbedder};
use uuid::Uuid;

use super::*;
use crate::stages::desk::ChunkTexts;

/// A document that is cut anew each time that vectors are handed in, for so many times.
struct Restless {
    n_cuts_left: RefCell<usize>,
    /// The chunks as they are now.
    chunks: RefCell<Vec<String>>,
    done: RefCell<BTreeSet<Stage>>,
    /// How many vectors were handed in, each time that some were.
    handed_in: RefCell<Vec<u32>>,
    stop: Arc<AtomicBool>,
}

impl Restless {
    fn new(n_cuts: usize) -> Self {
        let not_done = [Stage::Embed, Stage::Index];
        let done = Stage::ALL.into_iter().filter(|s| !not_done.contains(s));
        Self {
            n_cuts_left: RefCell::new(n_cuts),
            chunks: RefCell::new(vec!["first".to_owned()]),
            done: RefCell::new(done.collect()),
            handed_in: RefCell::default(),
            stop: Arc::default(),
        }
    }
}

impl Desk for Restless {
    fn task(&self) -> Result<Task, StageError> {
        Ok(Task {
            document_id: ResourceId::new(Uuid::from_u128(1)),
            digest: ContentDigest::from_bytes([7; 32]),
            file_name: "a.txt".to_owned(),
            declared_media_type: None,
            media_type: None,
            chunking: Chunking::default(),
            chunk_count: Some(self.chunks.borrow().len() as u64),
            done: self.done.borrow().clone(),
        })
    }

    fn content(&self) -> Result<Box<dyn Read + Send + '_>, StageError> {
        unreachable!("nobody validates")
    }

    fn text(&self) -> Result<String, StageError> {
        unreachable!("nobody cuts")
    }

    fn structure(&self) -> Result<Structure, StageError> {
        unreachable!("nobody cuts")
    }

    fn chunk_texts(&self) -> Result<ChunkTexts<'_>, StageError> {
        let chunks = self.chunks.borrow().clone();
        Ok(Box::new(chunks.into_iter().map(Ok)))
    }

    fn submit(&self, stage: Stage, output: StageOutput, _: Duration) -> Result<(), StageError> {
        if let StageOutput::Vectors { header, .. } = output {
            self.handed_in.borrow_mut().push(header.count);
            let mut left = self.n_cuts_left.borrow_mut();
            if *left > 0 {
                *left -= 1;
                self.chunks.borrow_mut().push("one more".to_owned());
                return Err(StageError::input_changed("cut anew"));
            }
        }
        self.done.borrow_mut().insert(stage);
        Ok(())
    }

    fn progress(&self, _: u8, _: &str) {}

    fn stop(&self) -> &Arc<AtomicBool> {
        &self.stop
    }
}

fn tools() -> Tools {
    Tools {
        parser: ParserProcess {
            program: "/nothing/is/parsed".into(),
            arguments: Vec::new(),
        },
        service: None,
        limits: Limits::default(),
        embedder: Arc::new(StaticEmbedder::open().unwrap()),
        detector: Arc::new(RulesDetector::new()),
        completer: None,
        entities_max: 10,
    }
}

/// A step that was asked for by hand, of which no second attempt is made, failed when the document
/// was cut anew while it was done.
#[test]
fn a_stage_whose_input_is_changed_meanwhile_is_done_again_on_what_there_is() {
    let tools = tools();
    let step = Restless::new(2);
    assert_eq!(run(&step, &tools, Stage::Embed), Ok(()));
    assert_eq!(*step.handed_in.borrow(), [1, 2, 3]);
    let whole = Restless::new(2);
    assert_eq!(process(&whole, &tools), Ok(()));
    assert_eq!(*whole.handed_in.borrow(), [1, 2, 3]);
    assert_eq!(whole.done.borrow().len(), Stage::ALL.len());
    // Done already, and to be done anew.
    let again = Restless::new(1);
    again.done.borrow_mut().extend(Stage::ALL);
    assert_eq!(process_again(&again, &tools, Some(Stage::Embed)), Ok(()));
    assert_eq!(*again.handed_in.borrow(), [1, 2]);
}

#[test]
fn a_document_that_is_changed_all_the_time_is_left_for_another_attempt() {
    let tools = tools();
    let (step, whole) = (Restless::new(usize::MAX), Restless::new(usize::MAX));
    let error = run(&step, &tools, Stage::Embed).unwrap_err();
    assert!(error.is_input_changed());
    assert_eq!(step.handed_in.borrow().len(), ROUNDS_MAX);
    assert_eq!(process(&whole, &tools), Err((Stage::Embed, error)));
    assert_eq!(whole.handed_in.borrow().len(), ROUNDS_MAX);
}
