//! `sandbox`: serves the embedded clouds and CI servers until told to stop.

use super::{args, context::Context, error::Failure, exit::Exit, signals::Signals};
use crate::sandbox::{Options, Scenario, Settings};

pub(super) fn run(context: &Context, args: args::Sandbox) -> Result<Exit, Failure> {
    let options = options(args)?;
    context.block_on(async {
        let signals = Signals::listen()?;
        let fail = |error| Failure::error("the sandbox").because(error);
        let sandbox = crate::sandbox::start(options).await.map_err(fail)?;
        context.output.line(sandbox.addresses())?;
        signals.first().await;
        sandbox.stop().await.map_err(fail)?;
        Ok(Exit::Done)
    })
}

fn options(args: args::Sandbox) -> Result<Options, Failure> {
    let mut settings = Settings::default();
    for (key, value) in &args.set {
        settings
            .set(key, value)
            .map_err(|error| Failure::error(format!("--set {key}={value}")).because(error))?;
    }
    let scenario = match args.scenario {
        None => None,
        Some(path) => {
            let fail = |error: &dyn std::error::Error| {
                Failure::error(format!("the scenario {}", path.display())).because(error)
            };
            let text = fs_err::read_to_string(&path).map_err(|error| fail(&error))?;
            Some(Scenario::parse(&text).map_err(|error| fail(&error))?)
        }
    };
    let data = match args.data {
        None => None,
        Some(folder) => {
            fs_err::create_dir_all(&folder)
                .map_err(|error| Failure::error("making the world's folder").because(error))?;
            Some(folder.join("world.json"))
        }
    };
    Ok(Options {
        listen: args.listen,
        data,
        seed: args.seed,
        settings,
        scenario,
        token: None,
    })
}
