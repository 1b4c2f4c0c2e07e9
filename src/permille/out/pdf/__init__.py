"""Invoice documents: `invoice.render_invoice(assembly.invoice_document(conn, invoice_id))` is the PDF."""
