//! Where a model would fit.

use axum::extract::{Request, State};
use http::StatusCode;
use rbee_core::{Error, ErrorKind, queen::LoadRequest, scheduler::Fit};

use super::{
    Shared,
    catalog::{named, refuse_unknown},
    local_user::Locality,
    middleware::HandlerResult,
};
use crate::{
    server::response,
    wire::{
        ErrorBody,
        policy::{DeviceEstimate, ESTIMATE, Estimate, EstimateRequest},
    },
};

/// Estimate on which devices a model would fit, with all numbers. Nothing is started.
#[cfg_attr(
    feature = "openapi",
    utoipa::path(
        post,
        path = ESTIMATE,
        tag = "workers",
        request_body = EstimateRequest,
        responses(
            (status = 200, description = "The verdict, device by device.", body = Estimate),
            (status = "default", description = "The error.", body = ErrorBody),
        ),
    )
)]
pub(super) async fn estimate(
    State(shared): State<Shared>,
    locality: Locality,
    request: Request,
) -> HandlerResult {
    let asked: EstimateRequest = shared.read_json(request).await?;
    for (name, value) in [("slots", asked.slots), ("context", asked.context)] {
        if value == Some(0) {
            let message = format!("{name} is 0; allowed is at least 1");
            return Err(Error::for_client(ErrorKind::InvalidRequest, message)
                .with_param(name)
                .into());
        }
    }
    shared.check_model(&locality, &asked.model).await?;
    let cluster = shared.queen.cluster().await?;
    let model = named(&shared.queen, &asked.model, &cluster)?;
    refuse_unknown(&shared.queen, &model).await?;
    let EstimateRequest { hive, devices, slots, context, .. } = asked;
    let request = LoadRequest { model: model.clone(), hive, devices, slots, pin: false };
    let found = shared.queen.models().estimate(&request, context).await?;
    let devices: Vec<DeviceEstimate> = found.into_iter().map(describe).collect();
    let fits = devices.iter().any(|device| device.verdict.starts_with("fits"));
    let estimate = Estimate { model: model.to_string(), fits, devices };
    Ok(response::json(StatusCode::OK, &estimate))
}

fn describe(found: rbee_core::scheduler::DeviceEstimate) -> DeviceEstimate {
    let (verdict, evict, why) = match found.fit {
        Fit::Fits => ("fits", Vec::new(), None),
        Fit::FitsAfter(evict) => ("fits_after_eviction", evict, None),
        Fit::Later => ("later", Vec::new(), None),
        Fit::TooSmall => ("too_small", Vec::new(), None),
        Fit::Unknown => {
            let why = "nothing is known of its size; it is when a machine has fetched the model";
            ("unknown", Vec::new(), Some(why.to_owned()))
        }
        Fit::Incompatible(why) => ("incompatible", Vec::new(), Some(why)),
        Fit::Unavailable(why) => ("unavailable", Vec::new(), Some(why)),
    };
    DeviceEstimate {
        hive: found.hive,
        device: found.device.index,
        total: found.device.memory_total,
        name: found.device.name,
        on_disk: found.on_disk,
        expected: found.expected,
        required: found.required,
        free: found.free,
        evictable: found.evictable,
        shortfall: found.shortfall,
        verdict: verdict.into(),
        evict,
        why,
    }
}
