// SPDX-License-Identifier: Apache-2.0

// The service appears, and the client gets its answer.

import { formatIpv4 } from "../../src/net/address.ts";
import type { Play, Scene } from "./scene.ts";
import { BALANCER, POD_PORT, VIP, VIP_PORT } from "./stage.ts";

/** Publishes the service and shows that the balancer's agent has it. */
export const playService: Play = async (scene) => {
  await scene.stage.startWebServers();
  return () => showService(scene);
};

async function showService({ screen, stage }: Scene): Promise<number> {
  screen.title("A service");
  screen.say(
    `nginx listens in every pod at port ${POD_PORT}. A Service and an EndpointSlice, as ` +
      `Kubernetes writes them, give it the address ${VIP} and the port ${VIP_PORT}.`,
  );
  stage.lab.publish(stage.web());
  await screen.during("publishing the service", stage.waitService("web", stage.pods.length));
  screen.line();
  screen.command("ciliate service list");
  screen.output(await stage.lab.output(BALANCER, ["ciliate", "service", "list"]));
  const view = await stage.service("web");
  screen.fact(
    view.ports[0]?.activeBackends === stage.pods.length,
    `the kernel's tables of all nodes have the service with ${stage.pods.length} backends`,
  );
  return 3;
}

/** One request by curl: what the client saw, and what nginx saw. */
export const playAnswer: Play = async (scene) => () => showAnswer(scene);

async function showAnswer({ screen, stage }: Scene): Promise<number> {
  screen.title("An answer");
  const url = `http://${VIP}/`;
  screen.command(`curl -v ${url}      # in the client`);
  const curl = ["curl", "-sv", "--max-time", "20", "-w", "\n%{remote_ip} %{local_port}\n", url];
  const { code, stdout, stderr } = await stage.lab.run("client", curl);
  const [body = "", , facts = ""] = stdout.split("\n");
  const told = stderr.split("\n").filter((line) => /Connected|> GET|< HTTP|< Server/.test(line));
  screen.output([...told.map((line) => line.trimEnd()), body].join("\n"));
  const [remote, port] = facts.split(" ");
  const pod = body.split(" ")[0] ?? "";
  screen.fact(code === 0 && remote === VIP, `the answer came from the service's address ${VIP}`);
  const client = formatIpv4(stage.lab.plan.clientAddress.address);
  const known = stage.pods.some(({ place }) => place.name === pod);
  screen.fact(
    known && body.endsWith(`${client}:${port}`),
    `${pod || "no pod"} made it, and saw the client as it is: ${client}:${port}`,
  );
  const logged = known ? await stage.nextAccess(pod) : undefined;
  screen.fact(
    logged?.client === client && logged.port === Number(port),
    `so its access log says: ${logged?.client} ${logged?.port} ${logged?.status} ${logged?.uri}`,
  );
  return 3;
}
