//! How good the built-in embedder is, beside the model it was distilled from: it must find the
//! article that answers a question, and judge likeness about as that model does.
//!
//! The figures to compare with are those of `inference/distil/README.md`.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use stemma_inference::{Embedder, StaticEmbedder, Stop};

fn lines(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn vector(text: &str) -> Vec<f32> {
    let embedder = StaticEmbedder::open().unwrap();
    embedder.embed(&[text], &Stop::new()).unwrap().remove(0)
}

fn likeness(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

/// The current articles of the demonstration, each with its vector.
fn articles() -> BTreeMap<String, Vec<f32>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stemma/demo/articles");
    let mut articles = BTreeMap::new();
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let slug = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if !slug.contains('.') {
            articles.insert(slug, vector(&std::fs::read_to_string(path).unwrap()));
        }
    }
    articles
}

#[test]
fn questions_find_the_articles_that_answer_them() {
    let articles = articles();
    let mut ranks = Vec::new();
    for question in lines("questions.json") {
        let asked = vector(question["question"].as_str().unwrap());
        let wanted = &articles[question["article"].as_str().unwrap()];
        let best = likeness(&asked, wanted);
        ranks.push(
            1 + articles
                .values()
                .filter(|other| likeness(&asked, other) > best)
                .count(),
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "twenty ranks below fifty")]
    let mean_reciprocal_rank =
        ranks.iter().map(|rank| 1.0 / *rank as f64).sum::<f64>() / ranks.len() as f64;
    let found = ranks.iter().filter(|rank| **rank <= 5).count();
    assert!(ranks.len() == 20 && found >= 17, "{ranks:?}");
    assert!(
        mean_reciprocal_rank > 0.55,
        "{mean_reciprocal_rank} {ranks:?}"
    );
}

#[test]
fn sentences_are_about_as_alike_as_the_model_says() {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for pair in lines("pairs.json") {
        let text = |name: &str| vector(pair[name].as_str().unwrap());
        ours.push(likeness(&text("a"), &text("b")));
        theirs.push(pair["minilm"].as_f64().unwrap());
    }
    let correlation = correlation(&ours, &theirs);
    assert!(correlation > 0.9, "{correlation}: {ours:?}");
}

/// Pearson's.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few pairs")]
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f(a - mean_a, b - mean_b))
            .sum()
    };
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}
