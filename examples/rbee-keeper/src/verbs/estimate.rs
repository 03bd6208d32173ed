//! `rbee load --estimate-only`: where a model would fit.

use rbee_transport_http::wire::policy::{self, DeviceEstimate, Estimate, EstimateRequest};

use crate::{
    Keeper,
    failure::{Exit, Failure},
    screen::{Column, Table, human},
};

pub(super) async fn estimate(keeper: &Keeper, request: &EstimateRequest) -> Result<Exit, Failure> {
    let found: Estimate = match keeper.client.post(policy::ESTIMATE, request).await {
        Ok(found) => found,
        Err(failure) => return Err(keeper.with_names(failure, &request.model).await),
    };
    if keeper.screen.is_json() {
        keeper.screen.document(&found)?;
    } else {
        let mut table = Table::new([
            Column::new("HIVE").middle(),
            Column::new("DEVICE").right().keep(90),
            Column::new("NAME").keep(40),
            Column::new("NEEDS").right().keep(80),
            Column::new("FREE").right().keep(70),
            Column::new("IN ALL").right().keep(30),
            Column::new("MISSING").right().keep(60),
            Column::new("VERDICT").state().keep(95),
        ]);
        for device in &found.devices {
            table.row([
                device.hive.to_string(),
                device.device.to_string(),
                device.name.clone(),
                if device.required == 0 { "?".into() } else { human::bytes(device.required) },
                human::bytes(device.free),
                human::bytes(device.total),
                if device.shortfall == 0 { "-".into() } else { human::bytes(device.shortfall) },
                verdict(device),
            ]);
        }
        keeper.screen.table(&table)?;
        let is_unknown = |device: &DeviceEstimate| device.verdict == "unknown";
        if found.devices.iter().any(is_unknown)
            && found.devices.iter().all(|device| device.required == 0)
        {
            keeper.screen.note(&unknown_size(&found.model));
        }
    }
    Ok(if found.fits { Exit::Ok } else { Exit::Failed })
}

fn unknown_size(model: &str) -> String {
    // A file is used in place or copied when a worker is started; there is nowhere to download it from.
    let what = match model.starts_with("file:") {
        true => "no hive has it, and its files cannot be read on the queen's machine",
        false => "no hive has it; `rbee pull` downloads it",
    };
    format!("the size of {model} is unknown: {what}")
}

fn verdict(device: &DeviceEstimate) -> String {
    match (device.verdict.as_str(), &device.why) {
        ("fits", _) => "fits".into(),
        ("fits_after_eviction", _) => match device.evict.len() {
            1 => "fits when an idle worker is stopped".into(),
            many => format!("fits when {many} idle workers are stopped"),
        },
        ("later", _) => "not now".into(),
        ("too_small", _) => "too small".into(),
        ("unknown", _) => "not known".into(),
        ("incompatible", Some(why)) => format!("cannot be read: {why}"),
        (_, Some(why)) => why.clone(),
        (other, None) => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_downloaded_is_to_be_pulled() {
        assert!(unknown_size("hf:org/bee").contains("`rbee pull` downloads it"));
        let file = unknown_size("file:/models/bee");
        assert!(file.contains("file:/models/bee") && !file.contains("rbee pull"), "{file}");
    }
}
