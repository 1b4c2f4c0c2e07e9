// Calls every method of lago-javascript-client, which are found by looking at the client, and writes what became of each
// as JSON: {"plans.findPlan": {"built": true, "status": 200}}. Standard input holds the ids that tests/client/world.py made.
import { readFileSync } from "node:fs";
import { Client } from "lago-javascript-client";

const { world, odd } = JSON.parse(readFileSync(0, "utf8"));
const client = Client(world.key, { baseUrl: `${world.url}/api/v1` });

const sent = { transaction_id: "by the client", code: "calls", external_subscription_id: "s", timestamp: 1793577600 };
const plan = { name: "n", code: "n", interval: "monthly", amount_cents: 1, amount_currency: "USD", pay_in_advance: false };
const charge = { billable_metric_id: world.metric, code: "n", charge_model: "standard", properties: { amount: "1" } };
const alert = { alert_type: "current_usage_amount", code: "a", thresholds: [{ code: "warn", value: "99.0" }] };
const fixedCharge = { add_on_code: "seat", charge_model: "standard", units: 1, properties: { amount: "1" } };
const filter = { values: { model: ["32K"] }, properties: { amount: "3" } };
const part = { fee_id: world.one_off_fee, amount_cents: 100 };
const last = (answer) => answer.data.filters.at(-1).lago_id;
const ofPlan = async () => last(await client.plans.findAllPlanChargeFilters("main", "tokens"));
const ofSubscription = async () => last(await client.subscriptions.findAllSubscriptionChargeFilters("s", "tokens"));

const overdue = async () => (await client.invoices.findAllInvoices({ payment_overdue: true })).data.invoices[0].lago_id;
const payment = async () => (await client.payments.findAllPayments()).data.payments[0].lago_id;
const receipt = async () => (await client.paymentReceipts.findAllPaymentReceipts()).data.payment_receipts[0].lago_id;
const request = async () => (await client.paymentRequests.findAllPaymentRequests()).data.payment_requests[0].lago_id;
const paid = async () => ({ payment: { invoice_id: await overdue(), amount_cents: 1, reference: "r" } });
const requested = async () => ({
  payment_request: { email: "c@c.test", external_customer_id: "c", lago_invoice_ids: [await overdue()] },
});
const wallet = { external_customer_id: "c", rate_amount: "1", currency: "USD", name: "w", granted_credits: "5" };
const walletId = async () => (await client.wallets.findAllWallets({ external_customer_id: "c" })).data.wallets[0].lago_id;
const entry = async (type) => {
  const found = (await client.wallets.findAllWalletTransactions(await walletId())).data.wallet_transactions;
  return found.find((each) => each.transaction_type === type).lago_id;
};
const refill = async () => ({ wallet_transaction: { wallet_id: await walletId(), granted_credits: "2" } });
const voided = async () => {
  const body = { wallet_transaction: { wallet_id: await walletId(), voided_credits: "1" } };
  return (await client.walletTransactions.createWalletTransaction(body)).data.wallet_transactions[0].lago_id;
};
const balanceAlert = { alert_type: "wallet_balance_amount", code: "low", thresholds: [{ code: "warn", value: "99.0" }] };

// In an order in which each finds what it needs.
const built = {
  "billingEntities.createBillingEntity": [{ billing_entity: { code: "n", name: "n" } }],
  "billingEntities.listBillingEntities": [],
  "billingEntities.getBillingEntity": ["default"],
  "billingEntities.updateBillingEntity": ["default", { billing_entity: { name: "n" } }],
  "addOns.createAddOn": [{ add_on: { name: "n", code: "n", amount_cents: 500, amount_currency: "EUR" } }],
  "addOns.findAllAddOns": [],
  "addOns.findAddOn": ["n"],
  "addOns.updateAddOn": ["n", { add_on: { name: "other" } }],
  "addOns.destroyAddOn": ["n"],
  "coupons.createCoupon": [{ coupon: { name: "n", code: "n", coupon_type: "percentage", percentage_rate: "5", frequency: "once", expiration: "no_expiration" } }],
  "coupons.findAllCoupons": [],
  "coupons.findCoupon": ["n"],
  "coupons.updateCoupon": ["n", { coupon: { name: "other" } }],
  "appliedCoupons.applyCoupon": [{ applied_coupon: { external_customer_id: "c", coupon_code: "n" } }],
  "appliedCoupons.findAllAppliedCoupons": [],
  "customers.findAllCustomerAppliedCoupons": ["c"],
  "customers.deleteAppliedCoupon": ["c", async () => (await client.appliedCoupons.findAllAppliedCoupons()).data.applied_coupons[0].lago_id],
  "coupons.destroyCoupon": ["n"],
  "wallets.createWallet": [{ wallet }],
  "wallets.findAllWallets": [{ external_customer_id: "c" }],
  "wallets.findWallet": [walletId],
  "wallets.updateWallet": [walletId, { wallet: { name: "other" } }],
  "wallets.replaceWalletMetadata": [walletId, { metadata: { a: "1" } }],
  "wallets.mergeWalletMetadata": [walletId, { metadata: { b: "2" } }],
  "wallets.deleteWalletMetadataKey": [walletId, "a"],
  "wallets.deleteAllWalletMetadata": [walletId],
  "wallets.findAllWalletTransactions": [walletId],
  "walletTransactions.createWalletTransaction": [refill],
  "walletTransactions.findWalletTransaction": [() => entry("inbound")],
  "walletTransactions.findAllWalletTransactionFundings": [voided],
  "walletTransactions.findAllWalletTransactionConsumptions": [() => entry("inbound")],
  "wallets.destroyWallet": [walletId],
  "customers.createCustomerWallet": ["c", { wallet: { ...wallet, code: "own" } }],
  "customers.findAllCustomerWallets": ["c"],
  "customers.findCustomerWallet": ["c", "own"],
  "customers.updateCustomerWallet": ["c", "own", { wallet: { name: "other" } }],
  "customers.replaceCustomerWalletMetadata": ["c", "own", { metadata: { a: "1" } }],
  "customers.mergeCustomerWalletMetadata": ["c", "own", { metadata: { b: "2" } }],
  "customers.deleteCustomerWalletMetadataKey": ["c", "own", "a"],
  "customers.deleteAllCustomerWalletMetadata": ["c", "own"],
  "customers.createCustomerWalletAlert": ["c", "own", { alert: balanceAlert }],
  "customers.getCustomerWalletAlerts": ["c", "own"],
  "customers.getCustomerWalletAlert": ["c", "own", "low"],
  "customers.updateCustomerWalletAlert": ["c", "own", "low", { alert: { name: "other" } }],
  "customers.deleteCustomerWalletAlert": ["c", "own", "low"],
  "customers.deleteAllCustomerWalletAlerts": ["c", "own"],
  "customers.destroyCustomerWallet": ["c", "own"],
  "billableMetrics.createBillableMetric": [{ billable_metric: { name: "n", code: "n", aggregation_type: "count_agg" } }],
  "billableMetrics.findAllBillableMetrics": [],
  "billableMetrics.evaluateBillableMetricExpression": [
    { expression: "event.properties.n * 2", event: { code: "c", timestamp: 1, properties: { n: 2 } } },
  ],
  "billableMetrics.updateBillableMetric": ["n", { billable_metric: { name: "other" } }],
  "billableMetrics.findBillableMetric": ["n"],
  "billableMetrics.destroyBillableMetric": ["n"],
  "apiLogs.findAllApiLogs": [],
  "apiLogs.findApiLog": [async () => (await client.apiLogs.findAllApiLogs()).data.api_logs[0].request_id],
  "activityLogs.findActivityLog": [async () => (await client.activityLogs.findAllActivityLogs()).data.activity_logs[0].activity_id],
  "activityLogs.findAllActivityLogs": [],
  "creditNotes.findAllCreditNotes": [],
  "creditNotes.findCreditNote": [world.credit_note],
  "creditNotes.estimateCreditNote": [{ credit_note: { invoice_id: world.one_off, items: [part] } }],
  "creditNotes.createCreditNote": [{ credit_note: { invoice_id: world.one_off, items: [part], credit_amount_cents: 120 } }],
  "creditNotes.downloadCreditNote": [world.credit_note],
  "creditNotes.updateCreditNote": [world.credit_note, { credit_note: { metadata: { a: "b" } } }],
  "creditNotes.replaceCreditNoteMetadata": [world.credit_note, { metadata: { a: "b", c: "d" } }],
  "creditNotes.mergeCreditNoteMetadata": [world.credit_note, { metadata: { e: "f" } }],
  "creditNotes.deleteCreditNoteMetadataKey": [world.credit_note, "a"],
  "creditNotes.deleteAllCreditNoteMetadata": [world.credit_note],
  "creditNotes.voidCreditNote": [
    async () => (await client.creditNotes.findAllCreditNotes({ credit_status: "available" })).data.credit_notes[0].lago_id,
  ],
  "customers.findAllCustomerCreditNotes": ["c"],
  "customers.createCustomer": [{ customer: { external_id: "n" } }],
  "customers.findAllCustomers": [],
  "customers.findCustomer": ["n"],
  "customers.destroyCustomer": ["n"],
  "customers.findAllCustomerInvoices": ["c"],
  "customers.findAllCustomerSubscriptions": ["c"],
  "customers.findCustomerCurrentUsage": ["c", { external_subscription_id: "s" }],
  "customers.findCustomerProjectedUsage": ["c", { external_subscription_id: "s" }],
  "customers.findAllCustomerPastUsage": ["c", { external_subscription_id: "s" }],
  "events.createEvent": [{ event: sent }],
  "events.createBatchEvents": [{ events: [{ ...sent, transaction_id: "in a batch" }] }],
  "events.findAllEvents": [],
  "events.findEvent": ["tokens%20s"],
  "events.eventEstimateFees": [{ event: sent }],
  "events.eventEstimateInstantFees": [{ event: sent }],
  "events.eventBatchEstimateInstantFees": [{ events: [sent] }],
  "fees.findAllFees": [],
  "fees.findFee": [world.fee],
  "fees.updateFee": [world.fee, { fee: { payment_status: "succeeded" } }],
  "fees.deleteFee": [world.other_fee],
  "invoices.findAllInvoices": [],
  "invoices.createInvoice": [
    { invoice: { external_customer_id: "c", currency: "USD", fees: [{ add_on_code: "sold", units: "2.5" }] } },
  ],
  "invoices.voidInvoice": [world.voided, { generate_credit_note: true, credit_amount: 500 }],
  "invoices.loseDisputeInvoice": [world.one_off],
  "invoices.deleteInvoice": [world.idle_draft],
  "invoices.invoicePreview": [{ customer: { external_id: "c" }, subscriptions: { external_ids: ["s"] } }],
  "invoices.findInvoice": [world.invoice],
  "invoices.retryPayment": [overdue],
  "paymentRequests.createPaymentRequest": [requested],
  "paymentRequests.findAllPaymentRequests": [],
  "paymentRequests.findPaymentRequest": [request],
  "payments.createPayment": [paid],
  "payments.findAllPayments": [],
  "payments.findPayment": [payment],
  "paymentReceipts.findAllPaymentReceipts": [],
  "paymentReceipts.findPaymentReceipt": [receipt],
  "customers.findAllCustomerPayments": ["c"],
  "customers.findAllCustomerPaymentRequests": ["c"],
  "customers.findAllCustomersPaymentMethods": ["c"],
  "invoices.updateInvoice": [world.invoice, { invoice: { payment_status: "succeeded" } }],
  "invoices.downloadInvoice": [world.invoice],
  "invoices.refreshInvoice": [world.draft],
  "invoices.finalizeInvoice": [world.draft],
  "organizations.findOrganization": [],
  "organizations.updateOrganization": [{ organization: { city: "Paris" } }],
  "plans.createPlan": [{ plan }],
  "plans.findAllPlans": [],
  "plans.findPlan": ["n"],
  "plans.updatePlan": ["n", { plan: { name: "other" } }],
  "plans.destroyPlan": ["n"],
  "plans.replacePlanMetadata": ["main", { metadata: { a: "b" } }],
  "plans.mergePlanMetadata": ["main", { metadata: { c: "d" } }],
  "plans.deletePlanMetadataKey": ["main", "a"],
  "plans.deleteAllPlanMetadata": ["main"],
  "plans.createPlanCharge": ["main", { charge }],
  "plans.findAllPlanCharges": ["main"],
  "plans.findPlanCharge": ["main", "n"],
  "plans.updatePlanCharge": ["main", "n", { charge: { properties: { amount: "2" } } }],
  "plans.destroyPlanCharge": ["main", "n", {}],
  "plans.createPlanFixedCharge": ["main", { fixed_charge: { ...fixedCharge, code: "n" } }],
  "plans.findAllPlanFixedCharges": ["main"],
  "plans.findPlanFixedCharge": ["main", "n"],
  "plans.updatePlanFixedCharge": ["main", "n", { fixed_charge: { units: 3 } }],
  "plans.destroyPlanFixedCharge": ["main", "n", {}],
  "plans.createPlanChargeFilter": ["main", "tokens", { filter }],
  "plans.findAllPlanChargeFilters": ["main", "tokens"],
  "plans.findPlanChargeFilter": ["main", "tokens", ofPlan],
  "plans.updatePlanChargeFilter": ["main", "tokens", ofPlan, { filter: { properties: { amount: "4" } } }],
  "plans.destroyPlanChargeFilter": ["main", "tokens", ofPlan, {}],
  "subscriptions.createSubscription": [
    { subscription: { external_customer_id: "c", plan_code: "paid", external_id: "n" } },
  ],
  "subscriptions.findAllSubscriptions": [],
  "subscriptions.findSubscription": ["n"],
  "subscriptions.updateSubscription": ["n", { subscription: { name: "other" } }],
  "subscriptions.destroySubscription": ["n"],
  "subscriptions.getSubscriptionLifetimeUsage": ["s"],
  "subscriptions.updateSubscriptionLifetimeUsage": [
    "s",
    { lifetime_usage: { external_historical_usage_amount_cents: 100 } },
  ],
  "subscriptions.findAllSubscriptionCharges": ["s"],
  "subscriptions.findSubscriptionCharge": ["s", "tokens"],
  "subscriptions.overrideSubscriptionCharge": ["s", "tokens", { charge: { properties: { amount: "6" } } }],
  "subscriptions.findAllSubscriptionFixedCharges": ["s"],
  "subscriptions.findSubscriptionFixedCharge": ["s", "seats"],
  "subscriptions.overrideSubscriptionFixedCharge": ["s", "seats", { fixed_charge: { units: 4 } }],
  "subscriptions.createSubscriptionChargeFilter": ["s", "tokens", { filter }],
  "subscriptions.findAllSubscriptionChargeFilters": ["s", "tokens"],
  "subscriptions.findSubscriptionChargeFilter": ["s", "tokens", ofSubscription],
  "subscriptions.updateSubscriptionChargeFilter": [
    "s",
    "tokens",
    ofSubscription,
    { filter: { properties: { amount: "5" } } },
  ],
  "subscriptions.destroySubscriptionChargeFilter": ["s", "tokens", ofSubscription],
  "subscriptions.createSubscriptionAlert": ["s", { alert }],
  "subscriptions.getSubscriptionAlerts": ["s"],
  "subscriptions.getSubscriptionAlert": ["s", "a"],
  "subscriptions.updateSubscriptionAlert": ["s", "a", { alert: { name: "n" } }],
  "subscriptions.deleteSubscriptionAlert": ["s", "a"],
  "subscriptions.deleteAllSubscriptionAlerts": ["s"],
  "features.createFeature": [{ feature: { code: "seats", privileges: [{ code: "max", value_type: "integer" }] } }],
  "features.findAllFeatures": [],
  "features.findFeature": ["seats"],
  "features.updateFeature": ["seats", { feature: { name: "Seats" } }],
  "plans.createEntitlement": ["main", { entitlements: { seats: { max: 10 } } }],
  "plans.findAllEntitlements": ["main"],
  "plans.updateEntitlement": ["main", { entitlements: { seats: { max: 20 } } }],
  "plans.findEntitlement": ["main", "seats"],
  "subscriptions.findAllSubscriptionEntitlements": ["s"],
  "subscriptions.updateSubscriptionEntitlements": ["s", { entitlements: { seats: { max: 30 } } }],
  "subscriptions.destroySubscriptionEntitlementPrivilege": ["s", "seats", "max"],
  "subscriptions.destroySubscriptionEntitlement": ["s", "seats"],
  "plans.removeEntitlementPrivilege": ["main", "seats", "max"],
  "plans.destroyEntitlement": ["main", "seats"],
  "features.deleteFeaturePrivilege": ["seats", "max"],
  "features.destroyFeature": ["seats"],
  "analytics.findAllGrossRevenues": [],
  "analytics.findAllInvoiceCollections": [],
  "analytics.findAllInvoicedUsages": [],
  "analytics.findAllMrrs": [],
  "analytics.findAllOverdueBalances": [],
  "analytics.findAllUsages": [],
  "taxes.createTax": [{ tax: { name: "n", code: "n", rate: "5.5" } }],
  "taxes.findAllTaxes": [],
  "taxes.findTax": ["n"],
  "taxes.updateTax": ["n", { tax: { name: "other" } }],
  "taxes.destroyTax": ["n"],
  "webhooks.fetchPublicKey": [],
  "webhooks.fetchJsonPublicKey": [],
  "webhookEndpoints.createWebhookEndpoint": [{ webhook_endpoint: { webhook_url: "https://b.test/hook" } }],
  "webhookEndpoints.findAllWebhookEndpoints": [],
  "webhookEndpoints.findWebhookEndpoint": [world.endpoint],
  "webhookEndpoints.updateWebhookEndpoint": [world.endpoint, { webhook_endpoint: { name: "n" } }],
  "webhookEndpoints.destroyWebhookEndpoint": [world.endpoint],
};

// Known, and refused as long as there is no payment provider and no portal.
const needProvider = [
  "customers.getCustomerPortalUrl",
  "customers.generateCustomerCheckoutUrl",
  "customers.paymentMethodSetAsDefault",
  "customers.destroyPaymentMethod",
  "invoices.invoicePaymentUrl",
  "walletTransactions.walletTransactionPaymentUrl",
];

function methods() {
  const found = {};
  for (const [group, one] of Object.entries(client)) {
    if (one === null || typeof one !== "object" || one instanceof Map) continue;
    for (const [name, method] of Object.entries(one)) {
      if (typeof method === "function" && /params/.test(method.toString())) found[`${group}.${name}`] = method;
    }
  }
  return found;
}

async function outcome(method, given) {
  try {
    const answer = await method(...given);
    return { status: answer.status };
  } catch (problem) {
    return { status: problem.status, error: problem.error ?? String(problem) };
  }
}

const every = methods();
const results = {};
for (const [name, given] of Object.entries(built)) {
  const ready = await Promise.all(given.map((each) => (typeof each === "function" ? each() : each)));
  results[name] = every[name] ? { built: true, ...(await outcome(every[name], ready)) } : { built: true, missing: true };
}
for (const [name, method] of Object.entries(every)) {
  if (!(name in built)) results[name] = { built: false, needsProvider: needProvider.includes(name), ...(await outcome(method, Array(method.length).fill("x"))) };
}

const keys = {
  text: (await client.webhooks.fetchPublicKey()).data,
  json: (await client.webhooks.fetchJsonPublicKey()).data.webhook.public_key,
};
const found = [];
for (const id of odd) {
  await client.customers.createCustomer({ customer: { external_id: id } });
  found.push((await client.customers.findCustomer(encodeURIComponent(id))).data.customer.external_id);
}
console.log(JSON.stringify({ results, keys, found }));
