//! Row 16: how the cost grows.

use super::{Lab, cores, cost, object};
use crate::plot::Series;
use crate::report::{Condition, Row};
use anyhow::{Context, Result};
use serde_json::{Value, json};

const COUNTS: [usize; 4] = [1, 3, 6, 9];
/// Measured on a shared machine, a line is straight within this.
const STRAIGHT: f64 = 1.1;
/// 1024x768 over 640x480.
const PIXELS: f64 = 2.56;

const HOW: &str = "CPU of the agents and of the viewer as in row 3, with 1, 3, 6 and 9 guests in mode box; and with one guest in mode \
    busy at 640x480 and at 1024x768, which is 2.56 times the pixels. Linear or better means that nine cost at most nine times one and \
    2.56 times the pixels at most 2.56 times the CPU, each with 10 % for the noise of measuring.";

/// Row 16.
pub(super) async fn instances_and_pixels(lab: &Lab) -> Result<Row> {
    let mut points = Vec::new();
    for count in COUNTS {
        points.push((count, cost::by_instances(lab, count).await?));
    }
    let series = |name: &str, of: &dyn Fn(&crate::bed::Cores) -> f64| Series {
        name: name.to_owned(),
        points: points.iter().map(|(count, used)| (*count as f64, of(used))).collect(),
    };
    let (one, nine) = (points.first().context("no point")?.1.clone(), points.last().context("no point")?.1.clone());
    let chain = |used: &crate::bed::Cores| used.agents + used.viewer.cores;
    let linear = Series {
        name: "nine times the first".to_owned(),
        points: COUNTS.iter().map(|count| (*count as f64, chain(&one) * *count as f64)).collect(),
    };
    let all = [
        series("agents", &|used| used.agents),
        series("viewer", &|used| used.viewer.cores),
        series("both", &chain),
        linear,
    ];
    lab.plot("row16-instances.svg", "CPU by instances, mode box", ("instances", "cores"), &all);

    let (small, large) = cost::by_pixels(lab).await?;
    let line =
        |name: &str, from: f64, to: f64| Series { name: name.to_owned(), points: vec![(1.0, from), (PIXELS, to)] };
    let lines = [
        line("agent", small.agents, large.agents),
        line("viewer", small.viewer.cores, large.viewer.cores),
        line("agent, if linear", small.agents, small.agents * PIXELS),
    ];
    lab.plot("row16-pixels.svg", "CPU by resolution, mode busy", ("times the pixels of 640x480", "cores"), &lines);

    let per = |more: f64, less: f64, times: f64| (less > 0.0).then(|| more / (less * times));
    let conditions = vec![
        Condition::at_most("nine chains / nine times one", per(chain(&nine), chain(&one), 9.0), STRAIGHT),
        Condition::at_most("agent at 2.56 x pixels / 2.56 x agent", per(large.agents, small.agents, PIXELS), STRAIGHT),
    ];
    let mut row = Row::new(16, "growth of CPU, 1 -> 9 instances, resolution x 2.56", "cores", HOW, conditions);
    let by_count: Vec<Value> = points
        .iter()
        .map(|(count, used)| json!({"instances": count, "agents": cores(used.agents), "viewer": cores(used.viewer.cores)}))
        .collect();
    row.ours = object([
        ("one", cores(chain(&one))),
        ("nine", cores(chain(&nine))),
        ("agent_640x480", cores(small.agents)),
        ("agent_1024x768", cores(large.agents)),
        ("by_instances", Value::Array(by_count)),
    ]);
    Ok(row)
}
