"""What names of a project are called on the pages: (English, Chinese); others are shown as is."""

from __future__ import annotations

Pair = tuple[str, str]

WINDOWS: dict[str, Pair] = {
    "day": ("day", "日"),
    "week": ("week", "周"),
    "month": ("month", "月"),
    "quarter": ("quarter", "季度"),
    "year": ("year", "年"),
}

FAMILIES: dict[str, Pair] = {
    "field_service": ("Field service", "现场服务"),
    "field_delivery": ("Field delivery", "现场交付"),
    "tickets": ("Tickets and repair", "工单与修复"),
    "complaints": ("Complaints", "投诉"),
    "customer": ("Customer", "客户"),
    "availability": ("Availability", "可用性"),
    "safety_and_process": ("Safety and process", "安全与过程"),
    "archive": ("Records and installed base", "记录与资产档案"),
    "compliance": ("Compliance", "合规"),
    "deliveries": ("Deliveries", "交付"),
    "network": ("Network", "网络"),
    "tl9000": ("TL 9000", "TL 9000"),
    "safety_and_cost": ("Safety and cost", "安全与成本"),
    "safety": ("Safety", "安全"),
    "cost": ("Cost", "成本"),
    "process": ("Process", "过程"),
}

DIMENSIONS: dict[str, Pair] = {
    "region": ("region", "区域"),
    "product": ("product", "产品"),
    "team": ("team", "班组"),
    "severity": ("severity", "严重度"),
    "priority": ("priority", "优先级"),
    "channel": ("channel", "渠道"),
    "kind": ("kind", "类别"),
    "type": ("type", "类型"),
    "category": ("category", "类别"),
    "customer_segment": ("customer segment", "客户群"),
    "supplier": ("supplier", "供应商"),
    "contractor": ("contractor", "承包商"),
    "technology": ("technology", "技术"),
    "site": ("site", "站点"),
    "cause": ("cause", "原因"),
    "topic": ("topic", "主题"),
}

RECORDS: dict[str, Pair] = {
    "jobs": ("jobs", "作业"),
    "tickets": ("tickets", "工单"),
    "ticket_events": ("ticket events", "工单事件"),
    "complaints": ("complaints", "投诉"),
    "outages": ("outages", "中断"),
    "surveys": ("surveys", "调查"),
    "deliveries": ("deliveries", "交付"),
    "returns": ("returns", "返还"),
    "fixes": ("fixes", "修复"),
    "audits": ("audits", "检查"),
    "exposure": ("exposure", "归一化单元"),
    "improvement_actions": ("improvement actions", "改进措施"),
    "changes": ("changes", "变更"),
    "assets": ("assets", "资产"),
    "costs": ("costs", "成本"),
}

# written with spaces; underscores mean the same
REASONS: dict[str, Pair] = {
    "no records": ("no records in the period", "期内无记录"),
    "no records to divide by": ("no records to divide by", "没有可作分母的记录"),
    "not mature yet": ("the period has not matured yet", "该期尚未成熟"),
}
