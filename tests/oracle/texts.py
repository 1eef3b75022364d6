"""Short documents in four languages and scripts, of different length."""

TEXTS = {
    "en": [
        "The cat sleeps on the warm stone.",
        "Rain fell all night.",
        "She reads an old book about the sea.",
        "Bread and salt.",
        "We met at the bridge in the evening.",
        "Nobody answered the door.",
        "Two boats left.",
        "The road to the village is long.",
    ],
    "zh": [
        "猫在石头上睡觉。",
        "雨下了一夜。",
        "她在读一本关于海的书。",
        "面包和盐。",
        "我们在桥边见面。",
        "没有人开门。",
        "两条船走了。",
        "去村子的路很长。",
    ],
    "hi": [
        "बिल्ली सो रही है।",
        "रात भर बारिश हुई।",
        "वह किताब पढ़ती है।",
        "रोटी और नमक।",
        "हम पुल पर मिले।",
        "किसी ने दरवाज़ा नहीं खोला।",
        "दो नावें गईं।",
        "गाँव दूर है।",
    ],
    "ar": [
        "القطة نائمة.",
        "هطل المطر طوال الليل.",
        "هي تقرأ كتابا عن البحر.",
        "خبز وملح.",
        "التقينا عند الجسر مساء.",
        "لم يفتح أحد الباب.",
        "رحل قاربان.",
        "الطريق إلى القرية طويل.",
    ],
}
