//! Annotations as they are answered: with their anchors, and with positions in the unit asked for.
//!
//! Invariant: beside today's text one other is held at a time, however many contents a resource has
//! had; and what may take long is done on a thread for blocking work.

use std::collections::BTreeMap;
use std::sync::Arc;

use stemma_domain::annotation::{OffsetUnit, SelectorWeight, TextIndex};
use stemma_domain::resource::{AnnotationState, Descriptor};

use crate::body::blocking;
use crate::error::{ApiError, Code};
use crate::state::AppState;
use crate::wire::annotation::{TextsOf, render};

/// Most steps, of about a nanosecond each, that annotations are rendered in where they are asked
/// for; more are taken on a thread for blocking work, since others wait for this one.
const QUICK_STEPS: u64 = 4 << 20;

/// Renders an annotation with its anchors in today's text.
pub(super) async fn rendered(
    state: &AppState,
    annotation: &AnnotationState,
    descriptor: &Descriptor,
    unit: OffsetUnit,
) -> Result<String, ApiError> {
    let one = std::slice::from_ref(annotation);
    let mut texts = rendered_all(state, one, descriptor, unit).await?;
    texts.pop().ok_or_else(|| ApiError::of(Code::Internal))
}

/// Renders annotations of one resource, in their order.
pub(super) async fn rendered_all(
    state: &AppState,
    annotations: &[AnnotationState],
    descriptor: &Descriptor,
    unit: OffsetUnit,
) -> Result<Vec<String>, ApiError> {
    let now = state.commands().text_of(descriptor).await?;
    let was_revised = descriptor.content_revision > 0;
    if unit == OffsetUnit::CodePoint || !was_revised || annotations.is_empty() {
        let then = now.clone();
        return Texts { now, then }
            .render(annotations, descriptor, unit)
            .await;
    }
    let contents = contents_of(state, descriptor).await?;
    let brought_at: Vec<u64> = contents.iter().map(|(position, _)| *position).collect();
    let added_at = annotations
        .iter()
        .map(|annotation| annotation.added_position);
    let mut rendered = vec![String::new(); annotations.len()];
    for (content, places) in by_content(&brought_at, added_at) {
        let then = match content.and_then(|index| contents.get(index)) {
            Some((_, content)) => state.commands().text_of(content).await?,
            None => now.clone(),
        };
        let now = now.clone();
        let own = places.iter().map(|place| annotations[*place].clone());
        let own: Vec<_> = own.collect();
        let texts = Texts { now, then }.render(&own, descriptor, unit).await?;
        for (place, text) in places.into_iter().zip(texts) {
            rendered[place] = text;
        }
    }
    Ok(rendered)
}

/// Each content that a resource has had, oldest first, with the position that brought it.
async fn contents_of(
    state: &AppState,
    descriptor: &Descriptor,
) -> Result<Vec<(u64, Descriptor)>, ApiError> {
    let (commands, mut described) = (state.commands().clone(), descriptor.clone());
    // There is one for each content, and of what describes the resource none of them needs any.
    described.metadata.clear();
    described.entity_types.clear();
    let contents = blocking(move || commands.contents_of(&described)).await??;
    Ok(contents)
}

/// Which contents the positions of annotations count in, by where they were brought and where the
/// annotations were added, each with the places of its annotations. Other contents are not read.
/// What was added before all of them counts in none, which cannot be.
fn by_content(
    brought_at: &[u64],
    added_at: impl Iterator<Item = u64>,
) -> BTreeMap<Option<usize>, Vec<usize>> {
    let mut by_content: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (place, added) in added_at.enumerate() {
        let before = brought_at.partition_point(|brought| *brought <= added);
        by_content
            .entry(before.checked_sub(1))
            .or_default()
            .push(place);
    }
    by_content
}

/// The texts that annotations of a resource count in; none where the content is no text.
struct Texts {
    /// Today's.
    now: Option<Arc<TextIndex>>,
    /// That in which they were made.
    then: Option<Arc<TextIndex>>,
}

impl Texts {
    /// Renders annotations that were made in one text, and lets go of it.
    async fn render(
        self,
        annotations: &[AnnotationState],
        descriptor: &Descriptor,
        unit: OffsetUnit,
    ) -> Result<Vec<String>, ApiError> {
        if is_quick(annotations, descriptor.byte_size) {
            return Ok(self.render_all(annotations, descriptor, unit));
        }
        let (annotations, descriptor) = (annotations.to_vec(), descriptor.clone());
        blocking(move || self.render_all(&annotations, &descriptor, unit)).await
    }

    fn render_all(
        &self,
        annotations: &[AnnotationState],
        descriptor: &Descriptor,
        unit: OffsetUnit,
    ) -> Vec<String> {
        let texts = TextsOf {
            now: self.now.as_deref(),
            then: self.then.as_deref(),
        };
        let one = |annotation| render(annotation, descriptor, texts, unit);
        annotations.iter().map(one).collect()
    }
}

/// Whether annotations are rendered quickly in a text of so many bytes.
fn is_quick(annotations: &[AnnotationState], text_bytes: u64) -> bool {
    let steps = annotations.iter().map(|state| steps(state, text_bytes));
    steps.fold(0, u64::saturating_add) <= QUICK_STEPS
}

/// About how many steps it takes at the most to write an annotation, and to look for what its
/// selectors select.
fn steps(state: &AnnotationState, text_bytes: u64) -> u64 {
    let annotation = &state.annotation;
    let target = annotation.property("target").ok().flatten();
    let weight = SelectorWeight::at_most(target.unwrap_or(annotation.as_str()));
    let bytes = annotation.as_str().len() as u64;
    weight.steps(text_bytes).saturating_add(bytes)
}

#[cfg(test)]
mod tests {
    use stemma_domain::id::AnnotationId;
    use stemma_domain::time::Timestamp;

    use super::*;

    /// All contents that a resource had ever had were read and held, for any page.
    #[test]
    fn a_page_needs_the_contents_that_its_annotations_were_made_in_and_no_others() {
        let brought_at = [10, 20, 30, 40];
        let of = |added_at: &[u64]| by_content(&brought_at, added_at.iter().copied());
        assert_eq!(of(&[]), BTreeMap::new());
        assert_eq!(
            of(&[35, 11, 10, 39, 12]),
            BTreeMap::from([(Some(0), vec![1, 2, 4]), (Some(2), vec![0, 3])])
        );
        assert_eq!(of(&[u64::MAX]), BTreeMap::from([(Some(3), vec![0])]));
        assert_eq!(of(&[9]), BTreeMap::from([(None, vec![0])]));
    }

    fn state(selectors: &str) -> AnnotationState {
        let annotation = format!(r#"{{"target":{{"selector":{selectors},"source":"/this"}}}}"#);
        AnnotationState {
            id: AnnotationId::new(uuid::Uuid::from_u128(7)),
            annotation: serde_json::from_str(&annotation).unwrap(),
            references: Vec::new(),
            added_at: Timestamp::from_micros(0),
            added_by: "me".to_owned(),
            added_position: 3,
            modified_at: None,
            revision: 2,
        }
    }

    /// One annotation of many selectors, or of long ones, took as long as many annotations, and was
    /// taken for one.
    #[test]
    fn what_is_quick_depends_on_the_selectors_and_their_lengths() {
        let quote = |exact: &str| format!(r#"{{"exact":"{exact}","type":"TextQuoteSelector"}}"#);
        let text_bytes = 4096;
        let few = state(&quote("a passage"));
        assert!(is_quick(std::slice::from_ref(&few), text_bytes));
        assert!(!is_quick(std::slice::from_ref(&few), 1 << 20));
        assert!(!is_quick(&vec![few; 500], text_bytes));
        let many = vec![quote("a"); 1000].join(",");
        assert!(!is_quick(&[state(&format!("[{many}]"))], text_bytes));
        assert!(!is_quick(
            &[state(&quote(&"a".repeat(100_000)))],
            text_bytes
        ));
        // Without a passage to look for, the text does not matter.
        let mut whole = state("{}");
        whole.annotation = serde_json::from_str(r#"{"target":"/this"}"#).unwrap();
        assert!(is_quick(&vec![whole; 500], u64::MAX));
    }
}
