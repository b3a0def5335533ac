//! Prices, which moto does not have: the spot history and the price list, as tables that a test sets.

use serde_json::{Value, json};

use super::{
    errors::{Body, Refusal},
    state::State,
    wire::{Asked, Service},
    xml::Element,
};

/// One row of DescribeSpotPriceHistory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpotPrice {
    pub instance_type: String,
    pub zone: String,
    /// US dollars an hour, as AWS spells it: `0.034500`.
    pub price: String,
    /// RFC 3339; the newest of a type and zone is the price now.
    pub since: String,
}

impl SpotPrice {
    pub fn new(instance_type: &str, zone: &str, price: &str, since: &str) -> Self {
        Self {
            instance_type: instance_type.to_owned(),
            zone: zone.to_owned(),
            price: price.to_owned(),
            since: since.to_owned(),
        }
    }
}

/// What every spot price here is for.
const PRODUCT: &str = "Linux/UNIX";

/// The page's bounds in `items`, and the token of the next page.
fn page(asked: &Asked, key: &str, default: i64, items: usize) -> (usize, usize, Option<String>) {
    let from: usize = asked.param("NextToken").parse().unwrap_or(0).min(items);
    let size = asked.number(key).unwrap_or(default).max(1);
    let to = items.min(from + usize::try_from(size).unwrap_or(1));
    (from, to, (to < items).then(|| to.to_string()))
}

/// The answer to DescribeSpotPriceHistory, newest first.
pub fn spot_history(state: &State, asked: &Asked, request: &str) -> Body {
    let types = asked.list("InstanceType");
    let products = asked.list("ProductDescription");
    let zone = asked.param("AvailabilityZone");
    let filters = asked.filters();
    let mut rows: Vec<&SpotPrice> = state
        .spot_prices
        .iter()
        .filter(|row| types.is_empty() || types.contains(&row.instance_type.as_str()))
        .filter(|_| products.is_empty() || products.iter().any(|product| product.starts_with(PRODUCT)))
        .filter(|row| zone.is_empty() || zone == row.zone)
        .filter(|row| {
            filters.iter().all(|(name, values)| {
                let value = match name.as_str() {
                    "instance-type" => row.instance_type.as_str(),
                    "availability-zone" => row.zone.as_str(),
                    "product-description" => PRODUCT,
                    "spot-price" => row.price.as_str(),
                    _ => row.since.as_str(),
                };
                values.iter().any(|wanted| wanted == value)
            })
        })
        .collect();
    rows.sort_by(|one, other| other.since.cmp(&one.since));
    let (from, to, next) = page(asked, "MaxResults", 1000, rows.len());
    let items = rows[from..to].iter().map(|row| {
        Element::node(
            "item",
            vec![
                Element::leaf("instanceType", &row.instance_type),
                Element::leaf("productDescription", PRODUCT),
                Element::leaf("spotPrice", &row.price),
                Element::leaf("timestamp", &row.since),
                Element::leaf("availabilityZone", &row.zone),
            ],
        )
    });
    let mut root = Element::node(
        "DescribeSpotPriceHistoryResponse",
        vec![
            Element::leaf("requestId", request),
            Element::node("spotPriceHistorySet", items.collect()),
            Element::leaf("nextToken", next.unwrap_or_default()),
        ],
    );
    root.namespace = Some("http://ec2.amazonaws.com/doc/2016-11-15/".to_owned());
    Body {
        status: 200,
        content_type: "text/xml;charset=UTF-8",
        text: root.document(),
    }
}

/// The answer to GetProducts: those of the price list that every filter fits.
pub fn products(state: &State, asked: &Asked, request: &str) -> Body {
    let Some(list) = &state.products else {
        return Refusal::new(
            500,
            "InternalErrorException",
            "An error on the server occurred during the processing of your request. Try again later.",
        )
        .body(Service::Pricing, request);
    };
    let filters: Vec<Value> = serde_json::from_str(asked.param("Filters")).unwrap_or_default();
    let found: Vec<&Value> = list
        .iter()
        .filter(|item| item["serviceCode"] == asked.param("ServiceCode"))
        .filter(|item| filters.iter().all(|filter| fits(item, filter)))
        .collect();
    let (from, to, next) = page(asked, "MaxResults", 100, found.len());
    // Each item is a document of its own, in a string.
    let items: Vec<String> = found[from..to].iter().map(ToString::to_string).collect();
    let mut answer = json!({"FormatVersion": "aws_v1", "PriceList": items});
    if let Some(next) = next {
        answer["NextToken"] = json!(next);
    }
    Body {
        status: 200,
        content_type: "application/x-amz-json-1.1",
        text: answer.to_string(),
    }
}

fn fits(item: &Value, filter: &Value) -> bool {
    let field = filter["Field"].as_str().unwrap_or_default();
    let wanted = filter["Value"].as_str().unwrap_or_default();
    let value = if field.eq_ignore_ascii_case("ServiceCode") {
        &item["serviceCode"]
    } else {
        &item["product"]["attributes"][field]
    };
    let value = value.as_str().unwrap_or_default();
    let among = || wanted.split(',').any(|one| one.trim() == value);
    match filter["Type"].as_str().unwrap_or_default() {
        "CONTAINS" => value.contains(wanted),
        "ANY_OF" => among(),
        "NONE_OF" => !among(),
        _ => value == wanted,
    }
}

/// One item of EC2's price list: Linux, shared tenancy, on demand, in that region, for `usd` an hour (`0.0970000000`).
pub fn product(instance_type: &str, region: &str, usd: &str) -> Value {
    let sku = format!("SKU{}", instance_type.replace('.', "").to_uppercase());
    // The codes of "on demand" and of "an hour of it", the same for every product.
    let (term, rate) = ("JRTCKXETXF", "6YS6EN2CT7");
    let offer = format!("{sku}.{term}");
    let rate = format!("{offer}.{rate}");
    let dimension = json!({
        "unit": "Hrs", "endRange": "Inf", "beginRange": "0", "appliesTo": [], "rateCode": rate,
        "description": format!("${usd} per On Demand Linux {instance_type} Instance Hour"),
        "pricePerUnit": {"USD": usd},
    });
    json!({
        "product": {
            "productFamily": "Compute Instance",
            "sku": sku,
            "attributes": {
                "servicecode": "AmazonEC2", "servicename": "Amazon Elastic Compute Cloud", "locationType": "AWS Region",
                "regionCode": region, "instanceType": instance_type, "operatingSystem": "Linux", "tenancy": "Shared",
                "capacitystatus": "Used", "preInstalledSw": "NA", "licenseModel": "No License required",
                "marketoption": "OnDemand", "currentGeneration": "Yes", "operation": "RunInstances",
                "usagetype": format!("BoxUsage:{instance_type}"),
            },
        },
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {
            &offer: {
                "sku": sku, "offerTermCode": term, "effectiveDate": "2026-11-01T00:00:00Z", "termAttributes": {},
                "priceDimensions": {&rate: dimension},
            },
        }},
        "version": "20261101000000",
        "publicationDate": "2026-11-01T00:00:00Z",
    })
}
