//! Finds the image that a droplet boots from: by slug, by id, or the newest of those that carry a tag.

use std::{collections::BTreeMap, time::Duration};

use digitalocean_api::api::Image as Builder;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{model::resource::ImageRef, provider::ProviderError};

use super::{Digitalocean, api::Failed, pages, requests, wire::One, wire_catalog::Image};

/// How long an image that was found is used again: longer than a burst of creates takes, shorter than anybody waits for a new one.
const IMAGE_AGE: Duration = Duration::from_secs(60);

/// Images that were found by tag and region, each with when.
pub(super) type Images = BTreeMap<(String, String), (Instant, u64)>;

impl Digitalocean {
    /// What a create in this region names.
    pub(super) async fn image(&self, image: &ImageRef, region: &str) -> Result<Value, ProviderError> {
        let tag = match image {
            ImageRef::Name(slug) => return Ok(json!(slug)),
            ImageRef::Id(id) => return Ok(json!(id)),
            ImageRef::NewestOf(tag) => tag,
            // What only EC2 has; the stack file is checked for it.
            ImageRef::Owned { .. }
            | ImageRef::Parameter(_)
            | ImageRef::LaunchTemplate
            | ImageRef::TaskTemplate => {
                return Err(not_found(image, region));
            }
        };
        // Held while asking, so that a burst of creates asks once.
        let mut images = self.images.lock().await;
        let key = (tag.clone(), region.to_owned());
        if let Some((found, id)) = images.get(&key)
            && found.elapsed() < IMAGE_AGE
        {
            return Ok(json!(id));
        }
        let newest = self.newest(tag, Some(region)).await.map_err(Failed::of_read)?;
        let id = newest.ok_or_else(|| not_found(image, region))?;
        images.insert(key, (Instant::now(), id));
        Ok(json!(id))
    }

    /// The newest image with a tag that can be used there.
    async fn newest(&self, tag: &str, region: Option<&str>) -> Result<Option<u64>, Failed> {
        let request = requests::of(&Builder::list()).query("tag_name", tag);
        let pages = pages::all::<Image>(&self.api, request).await?;
        let usable = pages.rows.into_iter().filter(|image| image.is_usable(region));
        let newest = usable.max_by_key(|image| (image.created_at, image.id));
        Ok(newest.map(|image| image.id))
    }

    /// Whether an image is there, and in the region, where one is named.
    pub(super) async fn has_image(&self, image: &ImageRef, region: Option<&str>) -> Result<bool, Failed> {
        let name = match image {
            ImageRef::Name(slug) => slug.clone(),
            ImageRef::Id(id) => id.to_string(),
            ImageRef::NewestOf(tag) => return Ok(self.newest(tag, region).await?.is_some()),
            ImageRef::Owned { .. }
            | ImageRef::Parameter(_)
            | ImageRef::LaunchTemplate
            | ImageRef::TaskTemplate => return Ok(false),
        };
        let request = requests::of(&Builder::get(name));
        let found: Option<One<Image>> = self.api.find(request).await?;
        Ok(found.is_some_and(|one| one.row.is_usable(region)))
    }
}

fn not_found(image: &ImageRef, region: &str) -> ProviderError {
    ProviderError::Rejected {
        code: "image_not_found".to_owned(),
        why: format!("no available image {image} in {region}"),
    }
}
