//! Valid annotations in every shape, and a table of what the model forbids.

use super::*;

const ID: &str = "019a0000-0000-7000-8000-00000000000a";

fn check(annotation: Value) -> Result<Value, Vec<FieldError>> {
    let resource = Uuid::try_parse(ID).unwrap();
    validate(annotation, &Context { resource })
}

#[test]
fn every_shape_that_the_model_allows_is_taken_and_kept() {
    let specific =
        |selector: Value| json!({ "source": "http://example.org/page", "selector": selector });
    for target in [
        json!("http://example.org/a"),
        json!(["http://example.org/a", { "id": "http://example.org/b", "type": "Video" }]),
        json!({ "id": "http://example.org/p.png", "type": "Image", "format": "image/png",
            "language": ["en", "fr"], "textDirection": "ltr", "processingLanguage": "en" }),
        json!({ "type": "Composite", "items": ["http://example.org/a", "http://example.org/b"] }),
        specific(json!({ "type": "FragmentSelector", "value": "xywh=0,0,1,1",
            "conformsTo": "http://www.w3.org/TR/media-frags/" })),
        specific(json!({ "type": "CssSelector", "value": "#a > p" })),
        specific(json!({ "type": "XPathSelector", "value": "/html/body/p[2]",
            "refinedBy": { "type": "TextPositionSelector", "start": 1, "end": 2 } })),
        specific(
            json!([{ "type": "TextQuoteSelector", "exact": "x", "prefix": "a", "suffix": "b" },
            { "type": "TextPositionSelector", "start": 4, "end": 4 }]),
        ),
        specific(json!({ "type": "DataPositionSelector", "start": 0, "end": 9 })),
        specific(json!({ "type": "SvgSelector", "value": "<svg/>" })),
        specific(json!({ "type": "SvgSelector", "id": "http://example.org/shape.svg" })),
        specific(json!({ "type": "RangeSelector",
            "startSelector": { "type": "XPathSelector", "value": "//a" },
            "endSelector": { "type": "XPathSelector", "value": "//b" } })),
        specific(json!({ "type": "ex:MySelector", "anything": 1 })),
        specific(json!("http://example.org/selector")),
        json!({ "source": { "id": "http://example.org/", "type": "Text" },
            "state": { "type": "TimeState", "sourceDate": "2015-07-20T13:30:00Z",
                "cached": "http://archive.example.org/1",
                "refinedBy": { "type": "HttpRequestState", "value": "Accept: application/pdf",
                    "refinedBy": { "type": "FragmentSelector", "value": "page=1" } } },
            "styleClass": "red", "renderedVia": { "id": "http://example.org/reader", "type": "Software" },
            "scope": "http://example.org/frame", "purpose": "linking" }),
    ] {
        let taken = check(json!({ "target": target })).unwrap();
        assert_eq!(taken["target"], target);
    }
}

#[test]
fn every_kind_of_body_and_property_is_taken_and_kept() {
    let annotation = json!({
        "@context": ["http://www.w3.org/ns/anno.jsonld", { "ex": "http://example.org/ns#" }],
        "type": ["Annotation", "ex:Note"],
        "motivation": ["commenting", "ex:praising"],
        "creator": [{ "id": "http://example.org/u", "type": "Person", "name": ["A", "B"],
            "nickname": "a", "email": "mailto:a@example.org", "homepage": "http://example.org/h" },
            "http://example.org/v"],
        "generator": { "type": "Software", "name": "Code v2.1" },
        "audience": { "type": "schema:EducationalAudience", "schema:educationalRole": "teacher" },
        "created": "2015-10-13T13:00:00Z", "modified": "2015-10-14T15:13:28.5Z",
        "generated": "2015-10-14T15:13:28Z",
        "rights": "http://creativecommons.org/licenses/by/4.0/", "canonical": "urn:uuid:1",
        "via": "http://other.example.org/anno1",
        "stylesheet": { "type": "CssStylesheet", "value": ".red { color: red }" },
        "accessibility": "captions", "ex:stars": 5, "ex:nested": { "deep": [1, 2.5, null] },
        "body": [
            { "type": "TextualBody", "value": "<p>j'adore</p>", "format": "text/html",
                "language": "fr", "purpose": "describing" },
            { "value": "no type" },
            { "type": "SpecificResource", "source": "http://example.org/tag", "purpose": "tagging" },
            { "type": "Choice", "items": [{ "type": "TextualBody", "value": "one" },
                "http://example.org/two"] },
            { "id": "http://example.org/speech.mp3", "type": "Sound" },
            "http://example.org/note",
        ],
        "target": "http://example.org/page",
    });
    assert_eq!(check(annotation.clone()).unwrap(), annotation);
    assert!(check(json!({ "bodyValue": "short", "target": "urn:x:y" })).is_ok());
    assert!(check(json!({ "target": "urn:x:y", "motivation": "highlighting" })).is_ok());
}

#[test]
fn what_a_client_may_leave_out_is_filled_in() {
    let taken = check(json!({ "id": "http://example.org/a1", "target":
        [{ "selector": { "type": "TextQuoteSelector", "exact": "x" } }, {}] }));
    let taken = taken.unwrap();
    assert_eq!(taken["@context"], CONTEXT);
    assert_eq!(taken["type"], "Annotation");
    assert_eq!(
        (&taken["id"], &taken["via"]),
        (&Value::Null, &json!("http://example.org/a1"))
    );
    for target in taken["target"].as_array().unwrap() {
        assert_eq!(target["source"], format!("/api/resources/{ID}"));
        assert_eq!(target["type"], "SpecificResource");
    }
    let again = check(json!({ "id": "urn:x:1", "via": ["urn:x:0"], "target": "urn:x:y" })).unwrap();
    assert_eq!(again["via"], json!(["urn:x:0", "urn:x:1"]));
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn what_the_model_forbids_is_named_by_its_place() {
    let source = "http://example.org/page";
    let with = |selector: Value| json!({ "target": { "source": source, "selector": selector } });
    for (annotation, pointer) in [
        (json!([]), ""),
        (json!({}), "/target"),
        (json!({ "target": [] }), "/target"),
        (json!({ "target": "not an iri" }), "/target"),
        (json!({ "target": 7 }), "/target"),
        (
            json!({ "target": [source, { "type": "Image" }] }),
            "/target/1/id",
        ),
        (
            json!({ "target": { "type": "TextualBody", "value": "x" } }),
            "/target/type",
        ),
        (
            json!({ "target": source, "@context": "http://example.org/" }),
            "/@context",
        ),
        (json!({ "target": source, "type": "Note" }), "/type"),
        (json!({ "target": source, "id": "no iri" }), "/id"),
        (
            json!({ "target": source, "body": source, "bodyValue": "x" }),
            "/bodyValue",
        ),
        (
            json!({ "target": source, "bodyValue": ["x"] }),
            "/bodyValue",
        ),
        (
            json!({ "target": source, "body": { "type": "TextualBody" } }),
            "/body/value",
        ),
        (
            json!({ "target": source, "body": { "type": "TextualBody", "value": 1 } }),
            "/body/value",
        ),
        (
            json!({ "target": source, "body": [{ "type": "Choice" }] }),
            "/body/0/items",
        ),
        (
            json!({ "target": source, "body": { "type": "Choice", "items": [] } }),
            "/body/items",
        ),
        (
            json!({ "target": source, "body": { "type": "SpecificResource" } }),
            "/body/source",
        ),
        (
            json!({ "target": source, "body": { "value": "x", "format": "html" } }),
            "/body/format",
        ),
        (
            json!({ "target": source, "body": { "value": "x", "language": "e n" } }),
            "/body/language",
        ),
        (
            json!({ "target": source, "body": { "value": "x", "textDirection": "up" } }),
            "/body/textDirection",
        ),
        (
            json!({ "target": source, "motivation": "shouting" }),
            "/motivation",
        ),
        (
            json!({ "target": source, "created": "2015-10-13" }),
            "/created",
        ),
        (
            json!({ "target": source, "created": "2015-10-13T13:00:00+02:00" }),
            "/created",
        ),
        (
            json!({ "target": source, "canonical": ["urn:a:b", "urn:a:c"] }),
            "/canonical",
        ),
        (
            json!({ "target": source, "creator": { "nickname": ["a", "b"] } }),
            "/creator/nickname",
        ),
        (json!({ "target": source, "rights": "all mine" }), "/rights"),
        (json!({ "target": source, "stylesheet": {} }), "/stylesheet"),
        (
            json!({ "target": { "source": [source] } }),
            "/target/source",
        ),
        (
            with(json!({ "type": "TextQuoteSelector" })),
            "/target/selector/exact",
        ),
        (
            with(json!({ "type": "TextQuoteSelector", "exact": ["x"] })),
            "/target/selector/exact",
        ),
        (
            with(json!({ "type": "TextPositionSelector", "start": -1, "end": 2 })),
            "/target/selector/start",
        ),
        (
            with(json!({ "type": "TextPositionSelector", "start": 0.5, "end": 2 })),
            "/target/selector/start",
        ),
        (
            with(json!({ "type": "TextPositionSelector", "start": 3, "end": 2 })),
            "/target/selector/end",
        ),
        (
            with(json!([{ "type": "DataPositionSelector", "start": 3 }])),
            "/target/selector/0/end",
        ),
        (
            with(json!({ "type": "GuessSelector" })),
            "/target/selector/type",
        ),
        (with(json!({ "value": "x" })), "/target/selector/type"),
        (with(json!([])), "/target/selector"),
        (
            with(json!({ "type": "RangeSelector", "startSelector": { "type": "CssSelector" } })),
            "/target/selector/startSelector/value",
        ),
        (
            with(
                json!({ "type": "CssSelector", "value": "p", "refinedBy": { "type": "CssSelector" } }),
            ),
            "/target/selector/refinedBy/value",
        ),
        (
            json!({ "target": { "source": source, "state": { "type": "TimeState",
            "sourceDateStart": "2015-07-20T13:30:00Z" } } }),
            "/target/state",
        ),
        (
            json!({ "target": { "source": source, "state": { "type": "HttpRequestState" } } }),
            "/target/state/value",
        ),
    ] {
        let errors = check(annotation.clone()).expect_err(&annotation.to_string());
        let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert!(pointers.contains(&pointer), "{annotation}: {pointers:?}");
    }
}

#[test]
fn all_errors_are_told_at_once() {
    let annotation = json!({ "type": "X", "motivation": 1, "target": { "selector": { "type": "CssSelector" } } });
    assert_eq!(check(annotation).unwrap_err().len(), 3);
}

/// Each may take a look through the whole text: a thousand targets of a thousand items held a
/// million of them.
#[test]
fn an_annotation_carries_so_many_text_selectors_and_no_more() {
    let quote = json!({ "type": "TextQuoteSelector", "exact": "x" });
    let position = json!({ "type": "TextPositionSelector", "start": 0, "end": 1 });
    let with = |selectors: &Value, count: usize| {
        let target = json!({ "source": "http://example.org/page", "selector": selectors });
        let mut targets = vec![target; count];
        // Within a set they count like others.
        let rest = targets.split_off(count / 2);
        targets.push(json!({ "type": "Choice", "items": rest }));
        check(json!({ "target": targets }))
    };
    assert!(with(&quote, TEXT_SELECTORS_MAX).is_ok());
    // As it is read again, each target with the position that was added to it.
    assert!(with(&json!([quote, position]), TEXT_SELECTORS_MAX).is_ok());
    for selectors in [quote, position] {
        let errors = with(&selectors, TEXT_SELECTORS_MAX + 1).unwrap_err();
        assert_eq!(
            (errors.len(), &*errors[0].pointer, errors[0].code),
            (1, "/target", "INVALID_ANNOTATION")
        );
    }
    let mut range = json!({ "type": "TextQuoteSelector", "exact": "x" });
    for _ in 0..10 {
        range = json!({ "type": "RangeSelector", "startSelector": range, "endSelector": range });
    }
    assert!(with(&range, 1).is_err(), "two thousand in one");
}
