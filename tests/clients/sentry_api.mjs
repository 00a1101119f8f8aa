// npm's sentry-api: what it lists, the series of a project, and the error it rejects with. Arguments: URL TOKEN ORGANIZATION
import { Client } from "sentry-api";

const [url, token, organization] = process.argv.slice(2);
const bearer = new Client(url, { token });
const basic = new Client(url.replace("//", `//${token}:@`));
console.log(JSON.stringify({
  organization: await bearer.organizations.get(organization),
  projects: await bearer.organizations.projects(organization),
  series: await bearer.request(`organizations/${organization}/stats/?since=1584824400&until=1584907200&resolution=1h`, { method: "GET" }),
  project: await basic.projects.stats(organization, "pump-station"),
  invalid: await bearer.get(`organizations/${organization}/stats/?resolution=2h`).catch((error) => error.message),
  foreign: await bearer.organizations.get("other-org").catch((error) => error.message),
}));
