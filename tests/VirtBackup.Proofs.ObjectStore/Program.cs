using VirtBackup.Proofs.ObjectStore;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
string? image = null;
var others = new List<string>();
for (var i = 0; i < args.Length; i++)
{
    if (args[i] != "--image")
    {
        others.Add(args[i]);
    }
    else if (++i < args.Length && File.Exists(args[i]))
    {
        image = Path.GetFullPath(args[i]);
    }
    else
    {
        await Console.Error.WriteLineAsync($"object-store: --image needs the path of a raw disk image{(i < args.Length ? $"; there is no file '{args[i]}'" : "")}.");
        return 2;
    }
}
return await ProofProgram.RunAsync(new ObjectStoreProof(image), [.. others]);
