//! Vectors of texts.

use crate::common::{self, Hall};
use http::StatusCode;
use rbee_transport_http::wire::openai::{EmbeddingList, Vector};
use serde_json::{Value, json};

#[tokio::test]
async fn vectors_come_as_numbers_or_in_base64() {
    let hall = Hall::with(common::echo().embed(3)).await;
    let ask = |format: Value| {
        hall.post(
            "/v1/embeddings",
            json!({"model": "bee", "input": ["one", "two"], "encoding_format": format}),
        )
    };
    let numbers: EmbeddingList = serde_json::from_slice(&ask(json!("float")).await.body).unwrap();
    let encoded: EmbeddingList = serde_json::from_slice(&ask(json!("base64")).await.body).unwrap();
    assert_eq!(
        (numbers.object.as_str(), numbers.data.len(), numbers.usage.prompt_tokens),
        ("list", 2, 2)
    );
    for (numbers, encoded) in numbers.data.iter().zip(&encoded.data) {
        let (Vector::Float(numbers), Vector::Base64(encoded)) =
            (&numbers.embedding, &encoded.embedding)
        else {
            panic!("not as asked for");
        };
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
        assert_eq!((numbers.len(), encoded.len()), (3, 16), "12 bytes in base64");
        assert_eq!(&decode(encoded), &bytes);
    }
    let same: EmbeddingList = serde_json::from_slice(&ask(Value::Null).await.body).unwrap();
    assert_eq!(same.data, numbers.data);
    let hall = Hall::new().await;
    let cannot = hall.post("/v1/embeddings", json!({"model": "bee", "input": "x"})).await;
    assert_eq!(
        (cannot.status, &cannot.json()["error"]["code"]),
        (StatusCode::BAD_REQUEST, &json!("unsupported"))
    );
}

#[tokio::test]
async fn vectors_are_made_of_texts_and_of_tokens_in_every_form() {
    let hall = Hall::with(common::echo().embed(4)).await;
    let ask = async |input: Value, more: Value| {
        let body = common::over(json!({"model": "bee", "input": input}), more);
        hall.post("/v1/embeddings", body).await
    };
    let vectors = async |input: Value| {
        let reply = ask(input, json!({})).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        let list: EmbeddingList = serde_json::from_slice(&reply.body).unwrap();
        list.data.into_iter().map(|vector| vector.embedding).collect::<Vec<_>>()
    };
    let text = vectors(json!("one")).await;
    assert_eq!(vectors(json!(["one"])).await, text);
    let tokens = vectors(json!([101, 7, 102])).await;
    assert_eq!(tokens.len(), 1, "three tokens are one text");
    assert_ne!(tokens, text);
    assert_eq!(vectors(json!([101.0, 7, 102])).await, tokens);
    let both = vectors(json!([[101, 7, 102], [5.0]])).await;
    assert_eq!((both.len(), &both[0]), (2, &tokens[0]));

    for (input, param) in [
        (json!([1, -2]), "input[1]"),
        (json!([1, 2.5]), "input[1]"),
        (json!([1, "a"]), "input[1]"),
        (json!([4_294_967_296_u64]), "input[0]"),
        (json!([[1], [2, "a"]]), "input[1][1]"),
        (json!([[1], 2]), "input[1]"),
        (json!(["a", [1]]), "input[1]"),
        (json!([true]), "input[0]"),
        (json!({"a": 1}), "input"),
        (json!([]), "input"),
        (json!(7), "input"),
    ] {
        let reply = ask(input.clone(), json!({})).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{input}: {}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{input}: {}", reply.text());
    }

    let short = ask(json!("one"), json!({"dimensions": 2.0})).await;
    let short: EmbeddingList = serde_json::from_slice(&short.body).unwrap();
    let Vector::Float(numbers) = &short.data[0].embedding else { panic!("floats by default") };
    assert_eq!(numbers.len(), 2);
    for bad in [0, 5] {
        let reply = ask(json!("one"), json!({"dimensions": bad})).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{bad}");
        assert_eq!(reply.json()["error"]["param"], "dimensions", "{}", reply.text());
    }
}

fn decode(base64: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits =
        base64.bytes().map(|byte| ALPHABET.iter().position(|known| *known == byte).unwrap());
    let bits = digits.fold(0u128, |bits, digit| bits << 6 | digit as u128);
    bits.to_be_bytes()[4..].to_vec()
}
