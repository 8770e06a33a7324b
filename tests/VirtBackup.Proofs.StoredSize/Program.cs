using VirtBackup.Proofs.StoredSize;
using VirtBackup.Testing.Proofs;

var images = new List<string>();
var others = new List<string>();
for (var i = 0; i < args.Length; i++)
{
    if (args[i] != "--image")
    {
        others.Add(args[i]);
    }
    else if (++i < args.Length && File.Exists(args[i]))
    {
        images.Add(Path.GetFullPath(args[i]));
    }
    else
    {
        await Console.Error.WriteLineAsync($"stored-size: --image needs the path of a raw disk image{(i < args.Length ? $"; there is no file '{args[i]}'" : "")}.");
        return 2;
    }
}
return await ProofProgram.RunAsync(new StoredSizeProof(images), [.. others]);
