//! The HTTP server that Stemma is built on, with nothing behind it: a body is taken and sent back
//! as an answer of its size. What a write costs before anything is done about it.

use actix_web::http::header::ContentType;
use actix_web::rt::System;
use actix_web::{App, HttpResponse, HttpServer, web};

/// Serves until the process ends; tells where it listens on the first line of its output.
pub(crate) fn serve() -> anyhow::Result<()> {
    System::new().block_on(async {
        let app = || App::new().default_service(web::to(answer));
        let server = HttpServer::new(app).bind(("127.0.0.1", 0))?;
        println!("listening on http://{}", server.addrs()[0]);
        server.run().await?;
        Ok(())
    })
}

async fn answer(body: web::Bytes) -> HttpResponse {
    let mut answer = HttpResponse::Created();
    answer.content_type(ContentType::json()).body(body)
}
