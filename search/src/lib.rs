//! Text and vectors of documents, indexed and asked: passages, ranking, snippets.
