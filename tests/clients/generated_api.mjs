// npm's @sentry/api, generated from the published description. Arguments: URL TOKEN ORGANIZATION
import * as api from "@sentry/api";

const [baseUrl, token, organization] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${token}` };
const path = { organization_id_or_slug: organization };
const day = { start: "2020-03-21T21:00:00Z", end: "2020-03-22T21:00:00Z", field: "sum(quantity)" };

async function ask(operation, more = {}) {
  const { data, error } = await operation({ baseUrl, headers, ...more });
  return error ?? data;
}
const usage = (query) => ask(api.retrieveEventCountsForAnOrganizationV2, { path, query: { ...day, ...query } });
const categories = [
  "error", "transaction", "attachment", "replay", "profile", "profile_duration", "profile_duration_ui",
  "profile_chunk", "profile_chunk_ui", "monitor",
];
const summary = (query) => ask(api.retrieveAnOrganization_sEventsCountByProject, { path, query: { ...day, ...query } });
const totals = {};
for (const category of categories) totals[category] = await usage({ groupBy: ["outcome"], category });
const summaries = {};
for (const category of ["error", "transaction", "attachment", "replays", "profiles"])
  summaries[category] = await summary({ category });

console.log(JSON.stringify({
  organizations: await ask(api.listYourOrganizations),
  organization: await ask(api.retrieveAnOrganization, { path }),
  usage: await usage({ groupBy: ["category", "outcome"] }),
  epoch: await usage({ groupBy: ["category", "outcome"], start: "1584824400", end: "1584910800" }),
  byProject: await usage({ groupBy: ["project", "category"], project: [-1] }),
  totals,
  summary: await summary({}),
  summaries,
  series: await ask(api.retrieveEventCountsForAProject, {
    path: { ...path, project_id_or_slug: "pump-station" },
    query: { stat: "received", since: "1584824400", until: "1584907200", resolution: "1h" },
  }),
  invalid: await usage({ groupBy: ["outcome"], category: "error", interval: "7h" }),
}));
